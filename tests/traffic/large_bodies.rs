//! Bodies stream in both directions: a gibibyte passes unchanged, and the memory of the process stays constant (DESIGN §5).

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::support::backend::{BackendConnection, OK};
use crate::support::http2::{request, wait_within};
use crate::support::{Backend, Proxy};

const GIBIBYTE: usize = 1024 * 1024 * 1024;
const CHUNK: usize = 256 * 1024;
/// Time limit of a whole transfer, through a debug build on a busy machine.
const MINUTES: Duration = Duration::from_secs(300);
/// Growth of the peak memory that one transfer may cause.
const MAX_GROWTH_KIB: usize = 16 * 1024;

/// Returns a chunk that differs from all others, so that a lost, doubled or moved chunk changes the digest.
fn chunk(number: usize) -> Vec<u8> {
    static PATTERN: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..CHUNK).map(|index| (index % 251) as u8).collect());
    let mut chunk = PATTERN.clone();
    chunk[..8].copy_from_slice(&(number as u64).to_le_bytes());
    chunk
}

fn digest_of_all() -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    (0..GIBIBYTE / CHUNK).for_each(|number| digest.update(&chunk(number)));
    digest.finish().as_ref().to_vec()
}

fn digest_of_read(mut read: impl FnMut(usize) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut digest = Context::new(&SHA256);
    for _ in 0..GIBIBYTE / CHUNK {
        digest.update(&read(CHUNK)?);
    }
    Ok(digest.finish().as_ref().to_vec())
}

/// Returns the peak memory of the process.
fn peak_kib(proxy: &Proxy) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[track_caller]
fn assert_constant_memory(proxy: &Proxy, before: usize) {
    let growth = peak_kib(proxy).saturating_sub(before);
    assert!(growth < MAX_GROWTH_KIB, "the process grew by {growth} KiB");
}

/// A backend that sends the digest of each upload to the test.
fn digesting_backend() -> (Backend, std::sync::mpsc::Receiver<Vec<u8>>) {
    let (sender, digests) = channel();
    let sender = std::sync::Mutex::new(sender);
    let backend = Backend::scripted(move |connection| {
        while let Some(head) = connection.head()? {
            if head.starts_with("POST") {
                let digest = read_upload(connection, &head)?;
                let _ = sender.lock().unwrap().send(digest);
            }
            connection.wire.send(OK)?;
        }
        Ok(())
    });
    (backend, digests)
}

fn read_upload(connection: &mut BackendConnection, head: &str) -> io::Result<Vec<u8>> {
    if head.to_lowercase().contains("content-length") {
        return digest_of_read(|length| connection.wire.read_exactly(length));
    }
    let mut digest = Context::new(&SHA256);
    loop {
        let length = usize::from_str_radix(&connection.wire.read_line()?, 16).map_err(io::Error::other)?;
        digest.update(&connection.wire.read_exactly(length)?);
        connection.wire.read_exactly(2)?;
        if length == 0 {
            return Ok(digest.finish().as_ref().to_vec());
        }
    }
}

fn downloading_backend() -> Backend {
    Backend::scripted(|connection| {
        while let Some(head) = connection.head()? {
            if !head.contains("/large") {
                connection.wire.send(OK)?;
                continue;
            }
            connection.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIBIBYTE}\r\n\r\n"))?;
            for number in 0..GIBIBYTE / CHUNK {
                connection.wire.stream.write_all(&chunk(number))?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_gibibyte_can_be_uploaded_over_http1_with_constant_memory() {
    let (backend, digests) = digesting_backend();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection.get("/warm").unwrap();
    let before = peak_kib(&proxy);
    connection
        .send(format!("POST /large HTTP/1.1\r\nHost: localhost\r\nContent-Length: {GIBIBYTE}\r\n\r\n"))
        .unwrap();
    for number in 0..GIBIBYTE / CHUNK {
        connection.stream.write_all(&chunk(number)).unwrap();
    }
    assert_eq!(connection.answer_to("POST").unwrap().status, 200);
    assert_eq!(digests.recv().unwrap(), digest_of_all());
    assert_constant_memory(&proxy, before);
}

#[test]
fn a_gibibyte_can_be_downloaded_over_http1_with_constant_memory() {
    let backend = downloading_backend();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection.get("/warm").unwrap();
    let before = peak_kib(&proxy);
    connection.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(connection.head().unwrap().header("content-length"), Some(GIBIBYTE.to_string().as_str()));
    let digest = digest_of_read(|length| connection.read_exactly(length)).unwrap();
    assert_eq!(digest, digest_of_all());
    assert_constant_memory(&proxy, before);
}

async fn upload(mut body: SendStream<Bytes>) -> Result<SendStream<Bytes>, h2::Error> {
    for number in 0..GIBIBYTE / CHUNK {
        let mut rest = Bytes::from(chunk(number));
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            let room = poll_fn(|context| body.poll_capacity(context)).await.transpose()?.unwrap_or_default();
            let part = rest.split_to(room.min(rest.len()));
            body.send_data(part, false)?;
        }
    }
    body.send_data(Bytes::new(), true)?;
    Ok(body)
}

async fn download(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut digest = Context::new(&SHA256);
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        digest.update(&part);
    }
    Ok(digest.finish().as_ref().to_vec())
}

#[test]
fn a_gibibyte_can_be_uploaded_and_downloaded_over_http2_with_constant_memory() {
    let (uploads, digests) = digesting_backend();
    let proxy = Proxy::in_front_of(&uploads.url());
    let connection = proxy.http2();
    connection.get("/warm").unwrap();
    let before = peak_kib(&proxy);
    let mut exchange = connection.open(request("POST", "/large", &[]), false).unwrap();
    exchange.body = wait_within(MINUTES, upload(exchange.body)).unwrap();
    assert_eq!(exchange.head().unwrap().0.status, 200);
    assert_eq!(digests.recv().unwrap(), digest_of_all());
    assert_constant_memory(&proxy, before);

    let downloads = downloading_backend();
    let proxy = Proxy::in_front_of(&downloads.url());
    let connection = proxy.http2();
    connection.get("/warm").unwrap();
    let before = peak_kib(&proxy);
    let (head, body, _) = connection.open(request("GET", "/large", &[]), true).unwrap().head().unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(wait_within(MINUTES, download(body)).unwrap(), digest_of_all());
    assert_constant_memory(&proxy, before);
}

/// Case 74.
#[test]
fn a_client_that_does_not_read_slows_the_backend_down_and_not_other_clients() {
    let backend = downloading_backend();
    let proxy = Proxy::in_front_of(&backend.url());
    let mut connection = proxy.connect();
    connection.get("/warm").unwrap();
    let before = peak_kib(&proxy);
    connection.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    connection.head().unwrap();
    // Other clients are served meanwhile, and the proxy does not read the gibibyte ahead.
    for _ in 0..50 {
        let mut other = proxy.connect();
        assert_eq!(other.get("/events").unwrap().status, 200);
    }
    assert_constant_memory(&proxy, before);
    let mut some = [0; 1024];
    connection.stream.read_exact(&mut some).unwrap();
}
