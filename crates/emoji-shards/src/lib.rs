//! The shards in `data/emoji/`, as bytes: they travel inside the binary, so the demo needs no files beside it.

/// Gzip-compressed WebDataset shards.
pub static SHARDS: [&[u8]; 8] = [
    include_bytes!("../../../data/emoji/emoji-00000.tar.gz"),
    include_bytes!("../../../data/emoji/emoji-00001.tar.gz"),
    include_bytes!("../../../data/emoji/emoji-00002.tar.gz"),
    include_bytes!("../../../data/emoji/emoji-00003.tar.gz"),
    include_bytes!("../../../data/emoji/emoji-00004.tar.gz"),
    include_bytes!("../../../data/emoji/emoji-00005.tar.gz"),
    include_bytes!("../../../data/emoji/emoji-00006.tar.gz"),
    include_bytes!("../../../data/emoji/emoji-00007.tar.gz"),
];
