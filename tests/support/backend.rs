//! A backend that records the exact bytes of its requests and answers by a script.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::http1::Wire;

/// The usual answer: `200 ok`.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// Listens until it is dropped; then its connections are closed.
pub struct Backend {
    pub address: SocketAddr,
    records: Arc<Records>,
}

#[derive(Default)]
struct Records {
    /// Heads of all requests, complete or not.
    heads: Mutex<Vec<String>>,
    /// Complete requests.
    requests: Mutex<Vec<ReceivedRequest>>,
    request_added: Condvar,
    /// Number of all connections.
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// A complete request as the backend got it.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// All bytes: head, body with its framing, trailers.
    pub raw: Vec<u8>,
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl ReceivedRequest {
    pub fn start_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// Returns every value of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

impl Backend {
    /// Answers every request with the same bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::scripted(move |connection| {
            while connection.request()?.is_some() {
                connection.wire.send(&answer)?;
            }
            Ok(())
        })
    }

    /// Answers `200 ok`.
    pub fn ok() -> Self {
        Self::answering(OK)
    }

    /// Answers each request with its own target, so that an answer shows to which request it belongs.
    pub fn echoing() -> Self {
        Self::scripted(|connection| {
            while let Some(request) = connection.request()? {
                let target = request.start_line().split(' ').nth(1).unwrap_or_default().to_owned();
                let length = target.len();
                connection
                    .wire
                    .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}"))?;
            }
            Ok(())
        })
    }

    /// Takes requests and never answers.
    pub fn never_answering() -> Self {
        Self::scripted(|connection| {
            while connection.request()?.is_some() {}
            Ok(())
        })
    }

    /// Opens an event stream and sends one event; the stream stays open until the client closes it.
    pub fn streaming() -> Self {
        Self::scripted(|connection| {
            while connection.request()?.is_some() {
                connection.wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")?;
                connection.wire.send("Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")?;
            }
            Ok(())
        })
    }

    /// Runs the script for each connection, on a thread for each; the connection is closed when the script ends.
    pub fn scripted(
        script: impl Fn(&mut BackendConnection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::scripted_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// Runs the script for each connection of a socket that already listens.
    pub fn scripted_on(
        listener: TcpListener,
        script: impl Fn(&mut BackendConnection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let records = Arc::new(Records::default());
        let script = Arc::new(script);
        let accepting = Arc::clone(&records);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (records, script) = (Arc::clone(&accepting), Arc::clone(&script));
                if let Ok(stream) = stream {
                    thread::spawn(move || records.run_script(stream, &*script));
                }
            }
        });
        Self { address, records }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the start lines of all requests so far, complete or not, in the order of their arrival.
    pub fn start_lines(&self) -> Vec<String> {
        let heads = self.records.heads.lock().unwrap();
        heads.iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }

    pub fn clear_records(&self) {
        self.records.heads.lock().unwrap().clear();
        self.records.requests.lock().unwrap().clear();
    }

    /// Returns all complete requests so far.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.records.requests.lock().unwrap().clone()
    }

    /// Waits until the backend has this number of complete requests, and returns all of them.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<ReceivedRequest> {
        let requests = self.records.requests.lock().unwrap();
        let added = &self.records.request_added;
        let (requests, wait) =
            added.wait_timeout_while(requests, DEADLINE, |requests| requests.len() < count).unwrap();
        assert!(!wait.timed_out(), "the backend got {} requests, not {count}", requests.len());
        requests.clone()
    }

    /// Returns the number of all connections so far.
    pub fn connections(&self) -> usize {
        self.records.connections.load(Ordering::SeqCst)
    }

    /// Closes every open connection, and keeps listening.
    pub fn close_connections(&self) {
        for stream in self.records.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.records.stopped.store(true, Ordering::SeqCst);
        // The connection wakes the accepting thread, which then releases the port.
        let _ = TcpStream::connect(self.address);
        self.close_connections();
    }
}

impl Records {
    fn run_script(
        self: Arc<Self>,
        stream: TcpStream,
        script: &dyn Fn(&mut BackendConnection) -> io::Result<()>,
    ) {
        let _ = stream.set_nodelay(true);
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.open.lock().unwrap().push(stream.try_clone().unwrap());
        let wire = Wire::new(RecordingStream { stream, read: Vec::new() });
        let mut connection = BackendConnection { wire, records: self };
        // A script ends with an error when the proxy closes the connection; a test sees that on its own side.
        let _ = script(&mut connection);
        let _ = connection.wire.stream.stream.shutdown(Shutdown::Both);
    }
}

/// The backend's end of a connection, for a script.
pub struct BackendConnection {
    pub wire: Wire<RecordingStream>,
    records: Arc<Records>,
}

impl BackendConnection {
    /// Reads and records a complete request; `None` at the end of the connection.
    pub fn request(&mut self) -> io::Result<Option<ReceivedRequest>> {
        let received = self.unrecorded_request()?;
        received.iter().for_each(|received| self.record(received.clone()));
        Ok(received)
    }

    /// Reads a complete request without recording it; `None` at the end of the connection.
    pub fn unrecorded_request(&mut self) -> io::Result<Option<ReceivedRequest>> {
        let Some(head) = self.head()? else { return Ok(None) };
        let mut received = ReceivedRequest { raw: Vec::new(), head, body: Vec::new() };
        let chunked =
            received.header("transfer-encoding").first().is_some_and(|coding| coding.ends_with("chunked"));
        let length = received.header("content-length").first().and_then(|length| length.parse().ok());
        match (chunked, length) {
            (true, _) => received.body = self.chunks()?,
            (false, Some(length)) => received.body = self.wire.read_exactly(length)?,
            (false, None) => {}
        }
        received.raw = std::mem::take(&mut self.wire.stream.read);
        Ok(Some(received))
    }

    /// Reads and records the head of a request, and leaves the body unread; `None` at the end of the connection.
    pub fn head(&mut self) -> io::Result<Option<String>> {
        match self.wire.read_until(b"\r\n\r\n") {
            Ok(head) => {
                let head = String::from_utf8_lossy(&head).into_owned();
                self.records.heads.lock().unwrap().push(head.clone());
                Ok(Some(head))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a line to the start lines, for an event that is not a request of HTTP/1.1.
    pub fn record_event(&self, event: String) {
        self.records.heads.lock().unwrap().push(event);
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.wire.read_line()?, 16).map_err(io::Error::other)?;
            if length == 0 {
                while !self.wire.read_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend_from_slice(&self.wire.read_exactly(length)?);
            self.wire.read_exactly(2)?;
        }
    }

    fn record(&self, received: ReceivedRequest) {
        self.records.requests.lock().unwrap().push(received);
        self.records.request_added.notify_all();
    }
}

/// A stream that keeps a copy of all bytes read from it.
pub struct RecordingStream {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Read for RecordingStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.read.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

impl Write for RecordingStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A port that refuses connections: its socket is bound and does not listen, so that no other program can use the port.
pub struct RefusingPort {
    socket: Socket,
}

impl RefusingPort {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self { socket }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.socket.local_addr().unwrap().as_socket().unwrap())
    }

    /// Accepts connections from now on.
    pub fn listen(self) -> TcpListener {
        self.socket.listen(128).unwrap();
        self.socket.into()
    }
}
