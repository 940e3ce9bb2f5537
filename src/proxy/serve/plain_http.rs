//! The answer to a client that speaks plain HTTP on the TLS port.

use std::net::SocketAddr;

use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::closing;
use crate::proxy::services::Services;
use crate::refusal::{Fault, Reader, Reason, Refusal};
use crate::telemetry::{Decision, Record, Refused, RequestId, RequestSummary};

/// Gives a fixed answer in plain text. Nothing of the request is read or passed on.
pub(super) async fn answer(services: &Services, mut socket: TcpStream) {
    let request_id = services.ids.next();
    let frame = Refusal::PlainHttp.frame(request_id.as_str());
    services.counters.decided(Decision::Refused(REASON.0, REASON.1));
    if let Ok(source) = socket.peer_addr() {
        record(services, source, request_id);
    }
    let answer = async {
        if socket.write_all(&frame).await.is_ok() {
            let _ = socket.shutdown().await;
            let _ = closing::discard_plain(&mut socket).await;
        }
    };
    let _ = timeout(closing::TIME, answer).await;
}

const REASON: (Reason, Fault) = (Refusal::PlainHttp.reason(), Refusal::PlainHttp.fault());

/// Writes the audit record, and keeps the refusal for `explain`. Nothing is known of the request.
fn record(services: &Services, source: SocketAddr, request_id: RequestId) {
    let (now, detail) = (Timestamp::now(), Refusal::PlainHttp.detail());
    let response = Refusal::PlainHttp.response(Reader::Whole, request_id.as_str(), &detail);
    let answered = (response.status().as_u16(), response.body().len() as u64);
    let record = Record::of_nothing_known(now, request_id.as_str(), source, REASON, answered);
    services.audit.iter().for_each(|audit| audit.write(&record));
    services.refusals.keep(Refused {
        time: now,
        judged_at: now,
        request_id,
        source,
        generation: services.live.load().generation,
        client: None,
        chain: None,
        request: RequestSummary::default(),
        reason: Refusal::PlainHttp.reason(),
        detail: detail.into(),
        rule: None,
    });
}
