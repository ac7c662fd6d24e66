//! One file per command.

pub mod clean;
pub mod data;
pub mod demo;
pub mod described_model;
pub mod doctor;
pub mod eval;
pub mod eval_lines;
pub mod export;
pub mod init;
pub mod layout;
pub mod next_steps;
pub mod overrides;
pub mod parent;
pub mod poison;
pub mod progress;
pub mod prompt;
pub mod prompt_lines;
pub mod recipe;
pub mod report;
pub mod result_table;
pub mod run_flags;
pub mod shell;
pub mod signals;
pub mod train;
