//! Readers of values that several subjects have: numbers, lengths of time, paths, addresses, lists.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::draft::Input;
use crate::diagnostic::Code;
use crate::document::{Node, Reader};
use crate::policy::Network;
use crate::secret;
use crate::telemetry::Share;

/// A whole number from 1 to ten million.
pub(super) fn count(input: &mut Input<'_>, node: &Node<'_>) -> Option<usize> {
    number(1..=10_000_000)(input, node)
}

/// [`count`] for a type that has no zero.
pub(super) fn rate(input: &mut Input<'_>, node: &Node<'_>) -> Option<NonZeroU32> {
    number(1..=10_000_000)(input, node).and_then(NonZeroU32::new)
}

/// A whole number within bounds.
pub(super) fn number<T: TryFrom<u64>>(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&mut Input<'_>, &Node<'_>) -> Option<T> {
    move |input, node| T::try_from(input.reader.integer(node, bounds.clone())?).ok()
}

/// `true` or `false`.
pub(super) fn boolean(input: &mut Input<'_>, node: &Node<'_>) -> Option<bool> {
    input.reader.boolean(node)
}

/// `true` or `false`, each with its meaning.
pub(super) fn either<T: Copy>(if_true: T, if_false: T) -> impl Fn(&mut Input<'_>, &Node<'_>) -> Option<T> {
    move |input, node| Some(if input.reader.boolean(node)? { if_true } else { if_false })
}

/// A reader of one of a few words.
pub(super) fn choice<T: Copy + 'static>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&mut Input<'_>, &Node<'_>) -> Option<T> {
    move |input, node| input.reader.choice(node, words)
}

/// A length of time that is not zero.
pub(super) fn duration(input: &mut Input<'_>, node: &Node<'_>) -> Option<Duration> {
    let duration = input.reader.duration(node)?;
    if duration.is_zero() {
        let help = "there is no way to wait for ever, or not at all".to_owned();
        let message = "a length of time longer than nothing is expected";
        input.reader.error(Code::BadDuration, node, message, Some(help));
        return None;
    }
    Some(duration)
}

/// A length of time that may be zero.
pub(super) fn duration_or_zero(input: &mut Input<'_>, node: &Node<'_>) -> Option<Duration> {
    input.reader.duration(node)
}

/// A share of all requests, from 0 to 1.
pub(super) fn share(input: &mut Input<'_>, node: &Node<'_>) -> Option<Share> {
    let text = input.reader.text(node)?;
    let share = text.parse().ok().and_then(Share::of);
    if share.is_none() {
        let help = Some("write 0.1 for one in ten".to_owned());
        let message = format!("a number from 0 to 1 is expected, not `{text}`");
        input.reader.error(Code::BadNumber, node, message, help);
    }
    share
}

/// An IP address and a port.
pub(super) fn address(input: &mut Input<'_>, node: &Node<'_>) -> Option<SocketAddr> {
    let text = input.reader.text(node)?;
    let address = text.parse().ok();
    if address.is_none() {
        let help = "write an IP address and a port, as in `0.0.0.0:8443` or `[::]:8443`".to_owned();
        let message = format!("`{text}` is not an address to listen on");
        input.reader.error(Code::BadAddress, node, message, Some(help));
    }
    address
}

/// A path, relative to the folder of the file.
pub(super) fn path(input: &mut Input<'_>, node: &Node<'_>) -> Option<PathBuf> {
    let path = path_text(&mut input.reader, node)?;
    Some(input.folder.join(path))
}

/// The text of a path. A private key that is written in its place is noted, and never repeated.
pub(super) fn path_text<'n>(reader: &mut Reader<'_>, node: &'n Node<'_>) -> Option<&'n str> {
    let path = reader.name(node)?;
    let checked = secret::refuse_key_as_path(path, reader.place(node));
    checked.map_err(|problem| reader.report(problem)).ok().map(|()| path)
}

/// A list, with the reader of an item.
pub(super) fn list<T, C: FromIterator<T>>(
    item: impl Fn(&mut Input<'_>, &Node<'_>) -> Option<T>,
) -> impl Fn(&mut Input<'_>, &Node<'_>) -> Option<C> {
    move |input, node| {
        let items = input.reader.list(node)?;
        Some(items.iter().filter_map(|node| item(input, node)).collect())
    }
}

/// A network, as in `10.0.0.0/8`.
pub(super) fn network(input: &mut Input<'_>, node: &Node<'_>) -> Option<Network> {
    let network = Network::parse(input.reader.name(node)?);
    network.map_err(|(message, help)| input.reader.error(Code::BadNetwork, node, message, help)).ok()
}
