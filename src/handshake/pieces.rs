//! Large copies, in pieces. The C library copies what is larger than a few KiB by one instruction of the processor
//! (`rep movsb`), and some processors run that at a fifth of the speed of a loop (glibc's bugs 30994 and 30995): a third
//! of what a download costs was one such copy. Below that size it loops; so what is copied is cut before it is copied.

use std::io::IoSlice;

/// Whole cache lines, and less than the least size from which any variant of glibc's `memmove` does it by that
/// instruction: 2 KiB (`x86_rep_movsb_threshold`, by the width of its vectors 2, 4 or 8 KiB).
pub const PIECE: usize = 2048 - 64;

/// What is to be written, cut into pieces, as many as there is place for.
pub fn cut<'a, 'p>(bufs: &'a [IoSlice<'a>], places: &'p mut [IoSlice<'a>]) -> &'p [IoSlice<'a>] {
    let mut taken = 0;
    let pieces = bufs.iter().flat_map(|buf| buf.chunks(PIECE));
    for (place, piece) in places.iter_mut().zip(pieces) {
        *place = IoSlice::new(piece);
        taken += 1;
    }
    places.get(..taken).unwrap_or_default()
}

/// Adds to the end.
pub fn append(to: &mut Vec<u8>, bytes: &[u8]) {
    to.reserve(bytes.len());
    bytes.chunks(PIECE).for_each(|piece| to.extend_from_slice(piece));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_what_was_cut_as_far_as_there_is_place() {
        let long: Vec<u8> = (0..10_000_u32).map(|byte| byte as u8).collect();
        let bufs = [IoSlice::new(b"head"), IoSlice::new(&[]), IoSlice::new(&long)];
        let mut places = [IoSlice::new(&[]); 16];
        let cut_whole = cut(&bufs, &mut places);
        let joined =
            |pieces: &[IoSlice<'_>]| pieces.iter().flat_map(|piece| piece.to_vec()).collect::<Vec<u8>>();
        assert_eq!(joined(cut_whole), [b"head", &long[..]].concat());
        assert!(cut_whole.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE));
        let mut few = [IoSlice::new(&[]); 3];
        assert_eq!(joined(cut(&bufs, &mut few)), [b"head", &long[..2 * PIECE]].concat());
        let mut appended = b"before ".to_vec();
        append(&mut appended, &long);
        assert_eq!(appended, [b"before ", &long[..]].concat());
    }
}
