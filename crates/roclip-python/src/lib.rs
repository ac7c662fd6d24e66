//! The whole program as a Python function. `python/roclip/__main__.py` calls it.

use pyo3::prelude::*;
use roclip_cli::{Invocation, Rendezvous};
use std::ffi::OsString;

/// Does what `arguments` ask for, as the binary does, and returns the exit code. `program` are the words that start it once more. Other
/// threads of Python may run meanwhile.
#[pyfunction]
fn run(py: Python<'_>, program: Vec<OsString>, arguments: Vec<OsString>) -> u8 {
    let invocation = Invocation { program: Some(program), words: arguments, join_in_python: Some(join) };
    py.detach(|| roclip_cli::run(invocation))
}

/// `roclip.process_group.join`, which loads Python's part of PyTorch where a GPU asks for it.
fn join(at: &Rendezvous, gpu: Option<usize>) -> Result<Option<String>, String> {
    Python::attach(|py| {
        let Rendezvous { host, port, rank, size, serve, prefix, timeout } = *at;
        let seconds = timeout.as_secs_f64();
        py.import("roclip.process_group")?
            .call_method1("join", (gpu, (host, port, rank, size, serve, prefix, seconds)))?
            .extract()
    })
    .map_err(|error: PyErr| error.to_string())
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run, module)?)
}
