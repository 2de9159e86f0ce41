//! Cursors of the change feed as text: opaque to callers, and of one length.

use crate::pipeline::ChangeCursor;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Of the encoding; the first byte.
const VERSION: u8 = 1;

pub(super) fn encode(cursor: ChangeCursor) -> String {
    let mut bytes = [VERSION; 1 + ChangeCursor::BYTES];
    bytes[1..].copy_from_slice(&cursor.to_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// # Errors
/// When the text was not made by [`encode`].
pub(super) fn decode(text: &str) -> Result<ChangeCursor, &'static str> {
    const INVALID: &str = "is not a cursor: use `cursor` or `next_cursor` of an earlier answer, unchanged";
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| INVALID)?;
    match bytes.split_first() {
        Some((&VERSION, rest)) => rest.try_into().map(ChangeCursor::from_bytes).map_err(|_| INVALID),
        Some(_) | None => Err(INVALID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let cursor = ChangeCursor::from_bytes(std::array::from_fn(|index| index as u8));
        let text = encode(cursor);
        assert_eq!((text.len(), decode(&text)), (44, Ok(cursor)));
        for bad in ["x", "", &text[1..], &text[..43], &format!("{text}AA"), &format!("B{}", &text[1..]), "é", " "] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }
}
