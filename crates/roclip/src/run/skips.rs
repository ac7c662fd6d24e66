//! `skips.jsonl`: what a run left out and why, over all its sessions.

use crate::error::Result;
use roclip_data::artifact;
use roclip_data::skip::SkipReport;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) struct SkipLog {
    path: PathBuf,
    /// Lines by reason and id, of earlier sessions.
    earlier: BTreeMap<[String; 2], String>,
}

impl SkipLog {
    /// The log of a new run, or of a resumed one: then the skips of earlier sessions stay in the file.
    pub fn open(path: PathBuf, resumed: bool) -> Result<SkipLog> {
        let text = if resumed && path.is_file() { artifact::read_text(&path)? } else { String::new() };
        Ok(SkipLog { path, earlier: by_reason(&text) })
    }

    /// Writes what this session and earlier ones left out.
    pub fn write(&self, report: &SkipReport) -> Result<()> {
        let mut lines = self.earlier.clone();
        lines.extend(by_reason(&report.to_jsonl()));
        let text: String = lines.into_values().map(|line| line + "\n").collect();
        Ok(artifact::write(&self.path, text.as_bytes())?)
    }
}

fn by_reason(text: &str) -> BTreeMap<[String; 2], String> {
    let keyed = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(([field("reason"), field("id")], line.to_owned()))
    };
    text.lines().filter_map(keyed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_adds_to_what_was_left_out_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skips.jsonl");
        let earlier = "{\"detail\":\"x\",\"id\":\"b\",\"reason\":\"too large\"}\n";
        std::fs::write(&path, earlier).unwrap();
        SkipLog::open(path.clone(), true).unwrap().write(&SkipReport::default()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), earlier);
        SkipLog::open(path.clone(), false).unwrap().write(&SkipReport::default()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
