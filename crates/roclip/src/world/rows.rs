//! The rows of a batch that a process computes the loss of.

/// All rows of a batch, or those of one of several processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnRows {
    All,
    /// `count` rows from `first` on; `processes` share the batch, and the mean of their losses is that of all rows.
    Part {
        first: i64,
        count: i64,
        processes: i64,
    },
}
