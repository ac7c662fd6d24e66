//! Digests of bytes, and their digits.

use sha2::{Digest, Sha256};

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The digest that 64 hexadecimal digits are.
pub fn sha256_of_hex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_back_from_its_digits() {
        let digest = sha256_hex(b"a picture");
        assert_eq!(sha256_of_hex(&digest).map(|bytes| hex(&bytes)), Some(digest.clone()));
        for broken in ["", &digest[1..], &format!("+{}", &digest[1..]), &"é".repeat(32)] {
            assert_eq!(sha256_of_hex(broken), None, "{broken}");
        }
    }
}
