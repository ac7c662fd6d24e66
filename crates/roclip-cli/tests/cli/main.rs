//! Black-box tests of the binary, in temporary folders, on data small enough to train on in seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod again;
mod bad_input;
mod caption;
mod caption_attack;
mod clean;
mod data_drop;
mod data_stats;
mod data_verify;
mod detect;
mod detect_inputs;
mod detect_trusted;
mod distil;
mod evaluation;
mod index;
mod instruct;
mod instruct_backdoor;
mod kills;
mod left_out;
mod loading;
mod models;
mod objectives;
mod pages;
mod pictures;
mod poison;
mod poisoning;
mod processes;
mod prompt;
mod recipes;
mod reports;
mod runs;
mod safeclip;
mod sources;
mod staying;
mod steps;
mod support;
mod sweeps;
mod terminal;
mod workflow;
