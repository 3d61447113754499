use std::fmt::Write as _;

/// Bytes as hexadecimal in groups of four, the width of a register.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 && at % 4 == 0 {
            text.push('_');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
