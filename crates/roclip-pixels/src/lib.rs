//! What is done to every pixel of every picture: [`picture`] decodes and resizes, [`augment`] changes. Under them lie what both report and
//! draw with: [`error`], [`skip`], [`escape`], [`random`]. `roclip-data` hands all of it on.
//!
//! The crate is apart because its loops need to be compiled in one piece (`codegen-units = 1`), which is slow for a larger crate.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod augment;
pub mod error;
pub mod escape;
pub mod picture;
pub mod random;
pub mod skip;
