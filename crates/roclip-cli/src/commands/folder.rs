//! Folders as flags take them.

use clap::builder::{PathBufValueParser, TypedValueParser};
use roclip_data::paths::plain;
use std::path::PathBuf;

/// A folder without the slash that a shell puts behind it (`runs/*/`): names of folders beside it are made of its own.
pub fn folder() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| plain(&path))
}
