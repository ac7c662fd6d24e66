//! The whole program as a Python function. `python/roclip/__main__.py` calls it.

use pyo3::prelude::*;
use roclip_cli::Invocation;
use std::ffi::OsString;

/// Does what `arguments` ask for, as the binary does, and returns the exit code. `program` are the words that start it once more. Other
/// threads of Python may run meanwhile.
#[pyfunction]
fn run(py: Python<'_>, program: Vec<OsString>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| roclip_cli::run(Invocation { program: Some(program), words: arguments }))
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run, module)?)
}
