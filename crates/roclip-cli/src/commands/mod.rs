//! One file per command.

pub mod demo;
pub mod eval;
pub mod overrides;
pub mod poison;
pub mod recipe;
pub mod report;
pub mod train;
