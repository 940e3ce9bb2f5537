//! Large copies in pieces. glibc copies more than a few KiB by one instruction (`rep movsb`), which some processors execute
//! at a fifth of the speed of a loop (bugs 30994 and 30995 of glibc). One such copy was a third of the cost of a download.
//! glibc copies smaller sizes in a loop, so buffers are split before they are copied.

use std::io::IoSlice;

/// Length of a piece in bytes: whole cache lines, and less than the size from which `memmove` uses the instruction. That size
/// is 2, 4 or 8 KiB, depending on the width of the vectors (`x86_rep_movsb_threshold`).
pub(crate) const PIECE: usize = 2048 - 64;

/// Splits buffers into pieces. The length of `places` bounds their number.
pub(crate) fn cut<'a, 'p>(bufs: &'a [IoSlice<'a>], places: &'p mut [IoSlice<'a>]) -> &'p [IoSlice<'a>] {
    let mut taken = 0;
    let pieces = bufs.iter().flat_map(|buf| buf.chunks(PIECE));
    for (place, piece) in places.iter_mut().zip(pieces) {
        *place = IoSlice::new(piece);
        taken += 1;
    }
    places.get(..taken).unwrap_or_default()
}

/// Appends bytes in pieces.
pub(crate) fn append(to: &mut Vec<u8>, bytes: &[u8]) {
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
