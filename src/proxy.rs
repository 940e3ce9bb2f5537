//! The data path: everything that happens to a client's connection, from `accept` to the last byte of the last answer.
//!
//! The modules below stand in the order of calls. A module uses only those after it; what it learns goes back as a returned
//! value.
//!
//! | module | decides or does |
//! | --- | --- |
//! | [`listener`] | accepts a socket, takes a place in the lobby, chooses a worker |
//! | [`worker`] | one thread: starts a task for each connection, knows all open ones |
//! | [`serve`] | the bytes: TLS, HTTP/1.1 and HTTP/2, deadlines, the end of a connection |
//! | [`gate`] | one request: who asks, may they, is there room, forward it; returns the answer and what becomes of the connection |
//! | [`reply`] | the answer's body on its way to the client, and the record of the decision |
//! | [`session`] | facts about one connection: its peer, its slot, its requests in progress, answers that wait for the client |
//! | [`services`] | what the requests of one worker share: snapshot, limits, backend, caches, counters |
//! | [`client`] | the verdict on one certificate chain, and the cache of these |

pub(crate) mod listener;
pub(crate) mod worker;

pub mod serve;

pub(crate) mod gate;

pub(crate) mod reply;

pub mod session;

pub mod services;

pub mod client;
