//! Named tensors: trainable parameters and buffers, created under dotted scopes that spell open_clip's keys.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// What a parameter belongs to: parts may train differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Image,
    Text,
    /// The temperature.
    Scale,
    /// An objective's own, beside the model.
    Objective,
}

/// A trainable tensor, as an optimizer takes it.
pub struct Parameter {
    pub name: String,
    /// Shares memory with its owner's.
    pub tensor: Tensor,
    pub part: Part,
}

#[derive(Default)]
struct Entries {
    trainable: BTreeMap<String, (Tensor, Part)>,
    buffers: BTreeMap<String, Tensor>,
}

/// Weights are drawn on the CPU and then moved, so that every device starts from the same ones.
const DRAWN: (Kind, Device) = (Kind::Float, Device::Cpu);

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

    /// The root of the name space, for parameters of `part`.
    pub fn root(&self, part: Part) -> Scope {
        Scope { parameters: self.clone(), prefix: String::new(), part }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// Trainable parameters by name. The tensors share memory with the model.
    pub fn trainable(&self) -> BTreeMap<String, Tensor> {
        let entries = self.entries.borrow();
        entries.trainable.iter().map(|(name, (tensor, _))| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Trainable parameters by name, each with its part.
    pub fn by_part(&self) -> Vec<Parameter> {
        let entries = self.entries.borrow();
        let parameter = |(name, (tensor, part)): (&String, &(Tensor, Part))| Parameter {
            name: name.clone(),
            tensor: tensor.shallow_clone(),
            part: *part,
        };
        entries.trainable.iter().map(parameter).collect()
    }

    /// Everything a checkpoint holds: parameters and buffers.
    pub fn all(&self) -> BTreeMap<String, Tensor> {
        let entries = self.entries.borrow();
        let trainable = entries.trainable.iter().map(|(name, (tensor, _))| (name, tensor));
        let both = trainable.chain(&entries.buffers);
        both.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }
}

/// A place in the dotted name space.
#[derive(Clone)]
pub struct Scope {
    parameters: Parameters,
    prefix: String,
    part: Part,
}

impl Scope {
    pub fn child(&self, name: impl std::fmt::Display) -> Scope {
        Scope { parameters: self.parameters.clone(), prefix: self.name(&name.to_string()), part: self.part }
    }

    fn name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    fn trainable(&self, name: &str, tensor: Tensor) -> Tensor {
        let tensor = tensor.to_device(self.parameters.device).set_requires_grad(true);
        let entry = (tensor.shallow_clone(), self.part);
        self.parameters.entries.borrow_mut().trainable.insert(self.name(name), entry);
        tensor
    }

    /// A parameter drawn from N(0, std).
    pub fn normal(&self, name: &str, shape: &[i64], std: f64) -> Tensor {
        self.trainable(name, Tensor::randn(shape, DRAWN) * std)
    }

    /// A parameter drawn from U(-bound, bound).
    pub fn uniform(&self, name: &str, shape: &[i64], bound: f64) -> Tensor {
        self.trainable(name, Tensor::rand(shape, DRAWN) * (2.0 * bound) - bound)
    }

    pub fn constant(&self, name: &str, shape: &[i64], value: f64) -> Tensor {
        self.trainable(name, Tensor::full(shape, value, DRAWN))
    }

    /// A tensor that is saved but not trained.
    pub fn buffer(&self, name: &str, tensor: Tensor) -> Tensor {
        let tensor = tensor.to_device(self.parameters.device);
        self.parameters.entries.borrow_mut().buffers.insert(self.name(name), tensor.shallow_clone());
        tensor
    }
}
