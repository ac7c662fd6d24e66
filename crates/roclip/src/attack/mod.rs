//! Attacks that need a model: what an attacker optimises, against a surrogate. The poison itself is planned in [`roclip_data::poison`].

pub mod aicattack;
mod badclip_bai;
mod badclip_liang;
pub mod instruct;
mod perturbation;

pub use badclip_bai::{DELTA, DeltaRule, UniversalDelta};
pub use badclip_liang::{BadClipConfig, Negatives, optimise_patch};
pub use perturbation::{Patch, PatchSearch, PatchStep, Perturbation, Place};

/// Each of `named` once, where it stands first: what is named twice is not done twice.
pub fn distinct<T: Copy + PartialEq>(named: &[T]) -> Vec<T> {
    let mut all = Vec::new();
    for one in named {
        if !all.contains(one) {
            all.push(*one);
        }
    }
    all
}
