//! Percent-encoding (<https://www.rfc-editor.org/rfc/rfc3986#section-2.1>).

/// Appends a text, of which letters, digits, `.`, `-` and `_` stay as they are, and so does what is in
/// `also`.
pub(crate) fn encode(text: &str, also: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                out.push(char::from(byte));
            }
            byte if byte.is_ascii() && also.contains(&byte) => out.push(char::from(byte)),
            byte => {
                out.push('%');
                for digit in [byte >> 4, byte & 0xf] {
                    out.push(char::from(DIGITS[usize::from(digit)]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str, also: &[u8]) -> String {
        let mut out = String::from("=");
        encode(text, also, &mut out);
        out
    }

    #[test]
    fn what_means_something_in_an_address_is_encoded() {
        assert_eq!(encoded("azAZ09.-_", b""), "=azAZ09.-_");
        assert_eq!(
            encoded("a/b?c#d e&f=~:%", b""),
            "=a%2Fb%3Fc%23d%20e%26f%3D%7E%3A%25"
        );
        assert_eq!(encoded("\0\u{7f}\u{e9}", b""), "=%00%7F%C3%A9");
        assert_eq!(encoded("~:/", b"~:"), "=~:%2F");
        // Half a character is none.
        assert_eq!(encoded("\u{e9}", b"\xc3\xa9"), "=%C3%A9");
    }
}
