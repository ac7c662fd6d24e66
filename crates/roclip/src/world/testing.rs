//! Several processes as threads of one, for tests.

use super::World;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;
use tch::{Device, Kind, Tensor};
use torch_bridge::Group;

/// `work` as each of `size` processes.
pub(crate) fn together<T: Send>(size: usize, work: impl Fn(World) -> T + Sync) -> Vec<T> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let join = |rank| {
        let serve = rank == 0;
        let timeout = Duration::from_secs(20);
        let at = torch_bridge::Rendezvous { host: "127.0.0.1", port, rank, size, serve, prefix: "test", timeout };
        work(World { collectives: Rc::new(Group::gloo(&at).unwrap()), timeout })
    };
    let join = &join;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || join(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

pub(crate) fn numbers(seed: f64, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let index = Tensor::arange(count, (Kind::Double, Device::Cpu));
    ((index * 12.9898 + seed * 78.233).sin() * 43758.5453).frac().reshape(shape).to_kind(Kind::Float)
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.flatten(0, -1).contiguous()).unwrap()
}
