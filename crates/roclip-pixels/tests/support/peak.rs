//! The memory of a test that runs in a process of its own; shared by the crates that measure it.

/// The largest memory that this process has had, in MiB (`VmHWM`).
pub fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
