//! A backend that records exactly the bytes it got and answers by a script.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::http1::Wire;

/// What a usual answer is.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// Listens until it is dropped; then its connections end too.
pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The heads of all requests, whether or not the rest of them came.
    begun: Mutex<Vec<String>>,
    seen: Mutex<Vec<Received>>,
    news: Condvar,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// A request as the backend got it.
#[derive(Clone, Debug)]
pub struct Received {
    /// All of its bytes: head, body with its framing, trailers.
    pub raw: Vec<u8>,
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Received {
    pub fn start_line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// Every value of a header.
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

    /// Answers each request with its own target, so that an answer shows what it is the answer to.
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
    pub fn hanging() -> Self {
        Self::scripted(|connection| {
            while connection.request()?.is_some() {}
            Ok(())
        })
    }

    /// Opens an event stream, says one event and then nothing until the client goes.
    pub fn streaming() -> Self {
        Self::scripted(|connection| {
            while connection.request()?.is_some() {
                connection.wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")?;
                connection.wire.send("Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n")?;
            }
            Ok(())
        })
    }

    /// Runs the script for each connection, each on a thread of its own; when it ends, the connection does.
    pub fn scripted(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::scripted_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same on a socket that listens already.
    pub fn scripted_on(
        listener: TcpListener,
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let script = Arc::new(script);
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, script) = (Arc::clone(&accepting), Arc::clone(&script));
                if let Ok(stream) = stream {
                    thread::spawn(move || shared.converse(stream, &*script));
                }
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The start line of everything that so much as began, in order.
    pub fn begun(&self) -> Vec<String> {
        let heads = self.shared.begun.lock().unwrap();
        heads.iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }

    /// Forgets what it got so far.
    pub fn forget(&self) {
        self.shared.begun.lock().unwrap().clear();
        self.shared.seen.lock().unwrap().clear();
    }

    /// Everything it got so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until it got so many requests.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        let seen = self.shared.seen.lock().unwrap();
        let (seen, late) =
            self.shared.news.wait_timeout_while(seen, DEADLINE, |seen| seen.len() < count).unwrap();
        assert!(!late.timed_out(), "the backend got {} requests, not {count}", seen.len());
        seen.clone()
    }

    /// How many connections were ever opened to it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Ends every open connection, and keeps listening.
    pub fn cut_connections(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then lets go of the port.
        let _ = TcpStream::connect(self.address);
        self.cut_connections();
    }
}

impl Shared {
    fn converse(self: Arc<Self>, stream: TcpStream, script: &dyn Fn(&mut Connection) -> io::Result<()>) {
        let _ = stream.set_nodelay(true);
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.open.lock().unwrap().push(stream.try_clone().unwrap());
        let mut connection = Connection { wire: Wire::new(Tap { stream, record: Vec::new() }), shared: self };
        // A script ends with an error when the proxy hangs up, which a test sees on its own side.
        let _ = script(&mut connection);
        let _ = connection.wire.stream.stream.shutdown(Shutdown::Both);
    }
}

/// One connection, for a script.
pub struct Connection {
    pub wire: Wire<Tap>,
    shared: Arc<Shared>,
}

impl Connection {
    /// Reads and records a whole request; `None` at the end of the connection.
    pub fn request(&mut self) -> io::Result<Option<Received>> {
        let received = self.unrecorded_request()?;
        received.iter().for_each(|received| self.record(received.clone()));
        Ok(received)
    }

    /// The same, for a script that keeps its own records.
    pub fn unrecorded_request(&mut self) -> io::Result<Option<Received>> {
        let Some(head) = self.head()? else { return Ok(None) };
        let mut received = Received { raw: Vec::new(), head, body: Vec::new() };
        let chunked =
            received.header("transfer-encoding").first().is_some_and(|coding| coding.ends_with("chunked"));
        let length = received.header("content-length").first().and_then(|length| length.parse().ok());
        match (chunked, length) {
            (true, _) => received.body = self.chunks()?,
            (false, Some(length)) => received.body = self.wire.exactly(length)?,
            (false, None) => {}
        }
        received.raw = std::mem::take(&mut self.wire.stream.record);
        Ok(Some(received))
    }

    /// Reads the head of a request and leaves the body; `None` at the end of the connection.
    pub fn head(&mut self) -> io::Result<Option<String>> {
        match self.wire.until(b"\r\n\r\n") {
            Ok(head) => {
                let head = String::from_utf8_lossy(&head).into_owned();
                self.shared.begun.lock().unwrap().push(head.clone());
                Ok(Some(head))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes something that is no request of HTTP/1.1 among what began.
    pub fn note(&self, what: String) {
        self.shared.begun.lock().unwrap().push(what);
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.wire.line()?, 16).map_err(io::Error::other)?;
            if length == 0 {
                while !self.wire.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend_from_slice(&self.wire.exactly(length)?);
            self.wire.exactly(2)?;
        }
    }

    fn record(&self, received: Received) {
        self.shared.seen.lock().unwrap().push(received);
        self.shared.news.notify_all();
    }
}

/// A stream that keeps what was read from it.
pub struct Tap {
    pub stream: TcpStream,
    record: Vec<u8>,
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.record.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

impl Write for Tap {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A port of the test's own that refuses connections for as long as this lives: bound, and never listening.
pub struct Refusing {
    socket: Socket,
}

impl Refusing {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self { socket }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.socket.local_addr().unwrap().as_socket().unwrap())
    }

    /// Takes connections from now on.
    pub fn listen(self) -> TcpListener {
        self.socket.listen(128).unwrap();
        self.socket.into()
    }
}
