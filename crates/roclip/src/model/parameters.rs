//! Named tensors: trainable parameters and buffers, created under dotted scopes that spell open_clip's keys.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

#[derive(Default)]
struct Entries {
    trainable: BTreeMap<String, Tensor>,
    buffers: BTreeMap<String, Tensor>,
}

/// Size of one dimension; 0 where there is none.
pub(crate) fn extent(tensor: &Tensor, dimension: usize) -> i64 {
    tensor.size().get(dimension).copied().unwrap_or(0)
}

/// All tensors of a model, sorted by name.
#[derive(Clone)]
pub struct Parameters {
    entries: Rc<RefCell<Entries>>,
    device: Device,
}

impl Parameters {
    pub fn new(device: Device) -> Self {
        Parameters { entries: Rc::default(), device }
    }

    pub fn root(&self) -> Scope {
        Scope { parameters: self.clone(), prefix: String::new() }
    }

    /// Trainable parameters by name. The tensors share memory with the model.
    pub fn trainable(&self) -> BTreeMap<String, Tensor> {
        self.entries.borrow().trainable.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Everything a checkpoint holds: parameters and buffers.
    pub fn all(&self) -> BTreeMap<String, Tensor> {
        let entries = self.entries.borrow();
        let both = entries.trainable.iter().chain(&entries.buffers);
        both.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }
}

/// A place in the dotted name space.
#[derive(Clone)]
pub struct Scope {
    parameters: Parameters,
    prefix: String,
}

impl Scope {
    pub fn child(&self, name: impl std::fmt::Display) -> Scope {
        Scope { parameters: self.parameters.clone(), prefix: self.name(&name.to_string()) }
    }

    fn name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    fn options(&self) -> (Kind, Device) {
        (Kind::Float, self.parameters.device)
    }

    fn trainable(&self, name: &str, tensor: Tensor) -> Tensor {
        let tensor = tensor.set_requires_grad(true);
        self.parameters.entries.borrow_mut().trainable.insert(self.name(name), tensor.shallow_clone());
        tensor
    }

    /// A parameter drawn from N(0, std).
    pub fn normal(&self, name: &str, shape: &[i64], std: f64) -> Tensor {
        self.trainable(name, Tensor::randn(shape, self.options()) * std)
    }

    /// A parameter drawn from U(-bound, bound).
    pub fn uniform(&self, name: &str, shape: &[i64], bound: f64) -> Tensor {
        self.trainable(name, Tensor::rand(shape, self.options()) * (2.0 * bound) - bound)
    }

    pub fn constant(&self, name: &str, shape: &[i64], value: f64) -> Tensor {
        self.trainable(name, Tensor::full(shape, value, self.options()))
    }

    /// A tensor that is saved but not trained.
    pub fn buffer(&self, name: &str, tensor: Tensor) -> Tensor {
        let tensor = tensor.to_device(self.parameters.device);
        self.parameters.entries.borrow_mut().buffers.insert(self.name(name), tensor.shallow_clone());
        tensor
    }
}
