//! Files that commands write into a folder which somebody names, and how older ones of their own are known: nobody else's are written over.

use crate::error::{Error, IoContext, Result};
use crate::run::looked::{LIST, SUMMARY};
use roclip_data::artifact;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Of a file so much is looked at.
const HEAD: u64 = 1 << 16;

/// A file that a command writes, by which its next call knows it again.
struct Product {
    name: &'static str,
    known: Known,
}

enum Known {
    /// It begins so, and has these in its first part.
    By(&'static str, &'static [&'static str]),
    /// The file of this name beside it is there, and is the command's own.
    Beside(&'static str),
}

/// What `roclip report`, a demo and a sweep write.
const REPORT: [Product; 4] = [
    Product { name: "report.html", known: Known::By("<!DOCTYPE html>", &["<title>roclip report</title>"]) },
    Product { name: "results.json", known: Known::By("[", &["\"run\":", "\"objective\":", "\"experiment\":"]) },
    Product { name: "results.csv", known: Known::By("run,label,control,seed,", &[]) },
    Product { name: "results.tex", known: Known::By("% ", &["\\begin{tabular}{l", "row & seeds & "]) },
];

/// What `roclip detect pairs` writes.
const PAIRS: [Product; 4] = [
    Product { name: "scores.jsonl", known: Known::By("{", &["\"id\":", "\"scores\":"]) },
    Product { name: SUMMARY, known: Known::By("{", &["\"looked\":", "\"methods\":"]) },
    Product { name: "detect.html", known: Known::By("<!DOCTYPE html>", &["<title>Suspicious pairs</title>"]) },
    // A list of ids looks like any other list.
    Product { name: LIST, known: Known::Beside(SUMMARY) },
];

/// What `roclip detect inputs` writes.
const INPUTS: [Product; 4] = [
    Product { name: "inputs.jsonl", known: Known::By("{", &["\"id\":", "\"attack\":", "\"scores\":"]) },
    Product { name: "inputs.json", known: Known::By("{", &["\"looked_at\":", "\"judged\":"]) },
    Product { name: "inputs.html", known: Known::By("<!DOCTYPE html>", &["<title>Suspicious inputs</title>"]) },
    // `inputs.json` comes last: an end before it leaves the list without.
    Product { name: "flagged.txt", known: Known::Beside("inputs.jsonl") },
];

/// Whether a report may be written into `folder`, which the flag `flag` names.
///
/// # Errors
/// A file of somebody else's that it would write over.
pub fn check_report_folder(folder: &Path, flag: &str) -> Result<()> {
    check(folder, flag, &REPORT)
}

/// [`check_report_folder`] for what is said of suspicious pairs.
///
/// # Errors
/// The same.
pub fn check_suspects_folder(folder: &Path, flag: &str) -> Result<()> {
    check(folder, flag, &PAIRS)
}

/// [`check_report_folder`] for what is said of suspicious inputs.
///
/// # Errors
/// The same.
pub fn check_inputs_folder(folder: &Path, flag: &str) -> Result<()> {
    check(folder, flag, &INPUTS)
}

/// Whether what lies under `name` in the folder `folder` is a report or what was found suspicious, or a folder of nothing else.
pub(super) fn is_product(folder: &Path, name: &str) -> bool {
    let path = folder.join(name);
    if !std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
        return is_own_file(folder, name);
    }
    let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    !names.is_empty() && names.iter().all(|name| is_own_file(&path, name) || artifact::is_left_over(name))
}

fn is_own_file(folder: &Path, name: &str) -> bool {
    let own = |products: &[Product]| {
        products.iter().any(|product| product.name == name && is_own(folder, product, products).unwrap_or(false))
    };
    [&REPORT[..], &PAIRS, &INPUTS].into_iter().any(own)
}

fn check(folder: &Path, flag: &str, products: &[Product]) -> Result<()> {
    for product in products {
        if !is_own(folder, product, products)? {
            return Err(Error::file(
                &folder.join(product.name),
                "is there already and is not of this command: it would be written over",
                format!("move it, or name another folder with {flag}"),
            ));
        }
    }
    Ok(())
}

/// Whether the file of `product` in `folder` is the command's own. One that is not there, or holds nothing, is nobody's.
fn is_own(folder: &Path, product: &Product, products: &[Product]) -> Result<bool> {
    let path = folder.join(product.name);
    // A pipe or a device is no file that could be replaced; a link is.
    let special = std::fs::symlink_metadata(&path).is_ok_and(|there| !there.is_file() && !there.is_symlink());
    if path.is_dir() || special {
        return Ok(false);
    }
    if !path.is_file() {
        return Ok(true);
    }
    let mut head = Vec::new();
    File::open(&path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).io("read", &path)?;
    let head = String::from_utf8_lossy(&head);
    match product.known {
        _ if head.is_empty() => Ok(true),
        Known::By(begins, has) => Ok(head.starts_with(begins) && has.iter().all(|text| head.contains(text))),
        Known::Beside(name) => match products.iter().find(|other| other.name == name) {
            Some(other) if folder.join(name).is_file() => is_own(folder, other, products),
            _ => Ok(false),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_somebody_elses_is_named_and_own_ones_are_written_again() {
        for products in [&REPORT[..], &PAIRS, &INPUTS] {
            let lab = tempfile::tempdir().unwrap();
            for Product { name, .. } in products {
                let path = lab.path().join(name);
                std::fs::write(&path, "{\"mine\": 1}\n").unwrap();
                let said = check(lab.path(), "--out", products).unwrap_err().to_string();
                assert!(said.contains(name) && said.contains("another folder with --out"), "{said}");
                std::fs::write(&path, "").unwrap();
                check(lab.path(), "--out", products).unwrap();
                std::fs::remove_file(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
                assert!(check(lab.path(), "--out", products).is_err(), "{name} is a folder");
                std::fs::remove_dir(&path).unwrap();
            }
            for Product { name, known } in products {
                let text = match known {
                    Known::By(begins, has) => format!("{begins}{}", has.join(" ")),
                    Known::Beside(_) => "a\nb\n".to_owned(),
                };
                std::fs::write(lab.path().join(name), text).unwrap();
            }
            check(lab.path(), "--out", products).unwrap();
        }
    }
}
