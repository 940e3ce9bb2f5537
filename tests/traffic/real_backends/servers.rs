//! Common servers, each started with an application or a folder of files, on a port or a socket of its own.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::support::http1::Wire;
use crate::support::proxy::Process;
use crate::support::tools::{node, script};
use crate::support::{DEADLINE, installed, is_missing};

/// A running server. The server and all its processes end when this is dropped.
pub struct Server {
    address: Address,
    process: Process,
    _folder: TempDir,
    /// The reserved port of a server that cannot report a port of the kernel's choice. The socket is bound and never listens.
    _reserved: Option<Socket>,
}

/// The address of a server.
#[derive(Clone, Debug)]
pub enum Address {
    Port(SocketAddr),
    Socket(PathBuf),
}

/// A stream on which a request can be sent.
pub trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Server {
    /// Returns the value for `backend.url`.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Port(address) => format!("http://{address}"),
            Address::Socket(path) => format!("unix:{}", path.display()),
        }
    }

    pub fn address(&self) -> SocketAddr {
        match &self.address {
            Address::Port(address) => *address,
            Address::Socket(path) => panic!("{} is no port", path.display()),
        }
    }

    /// Connects to the server directly.
    pub fn connect(&self) -> io::Result<Wire<Box<dyn Stream>>> {
        Ok(Wire::new(match &self.address {
            Address::Port(address) => {
                let stream = TcpStream::connect_timeout(address, DEADLINE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                Box::new(stream)
            }
            Address::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                Box::new(stream)
            }
        }))
    }

    /// Starts a program in its own process group, and waits for the line of its log that has `listening` and its address.
    fn start(mut command: Command, folder: TempDir, listening: &str) -> Self {
        let mut process = Process::start(command.process_group(0));
        let line = process.log_with(listening);
        let address = line.split("127.0.0.1:").nth(1).unwrap_or_else(|| panic!("no address in `{line}`"));
        let port: String = address.chars().take_while(char::is_ascii_digit).collect();
        let address = Address::Port(([127, 0, 0, 1], port.parse().unwrap()).into());
        Self { address, process, _folder: folder, _reserved: None }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("kill -s KILL -- -{}", self.process.id());
        let _ = Command::new("sh").args(["-c", &group]).status();
    }
}

/// `nginx` with static files, on a Unix socket.
pub fn nginx() -> Option<Server> {
    let program = daemon("nginx");
    if is_missing("nginx", Command::new(&program).arg("-v")) {
        return None;
    }
    let folder = site();
    let mut command = Command::new(program);
    command.current_dir(folder.path()).arg("-p").arg(folder.path());
    command.arg("-c").arg(script("traffic/real_backends/nginx.conf"));
    // Without `-e`, the messages before the configuration is read go to a file that only root can write.
    let mut process = Process::start(command.args(["-e", "stderr"]).process_group(0));
    process.log_with("using the \"epoll\" event method");
    let address = Address::Socket(folder.path().join("nginx.sock"));
    Some(Server { address, process, _folder: folder, _reserved: None })
}

/// Apache with static files.
pub fn apache() -> Option<Server> {
    let program = daemon("apache2");
    if is_missing("apache2", Command::new(&program).arg("-v")) {
        return None;
    }
    let (folder, reserved) = (site(), reserved());
    let address = reserved.local_addr().unwrap().as_socket().unwrap();
    let mut command = Command::new(program);
    command.arg("-DFOREGROUND").arg("-f").arg(script("traffic/real_backends/apache.conf"));
    command.env("FOLDER", folder.path()).env("PORT", address.port().to_string());
    let mut process = Process::start(command.process_group(0));
    process.log_with("resuming normal operations");
    Some(Server { address: Address::Port(address), process, _folder: folder, _reserved: Some(reserved) })
}

/// A WSGI application.
pub fn gunicorn() -> Option<Server> {
    gunicorn_with(&[])
}

/// A WSGI application, served with more arguments.
pub fn gunicorn_with(arguments: &[&str]) -> Option<Server> {
    let mut command = python("gunicorn", "import gunicorn")?;
    command.args(["-m", "gunicorn"]).args(arguments).args([
        "--bind=127.0.0.1:0",
        "--worker-class=gthread",
        "--threads=4",
    ]);
    command.arg("--chdir").arg(script("traffic/real_backends")).arg("wsgi:application");
    Some(Server::start(command, tempfile::tempdir().unwrap(), "Listening at"))
}

/// An ASGI application.
pub fn uvicorn() -> Option<Server> {
    uvicorn_with(&[])
}

/// An ASGI application, served with more arguments.
pub fn uvicorn_with(arguments: &[&str]) -> Option<Server> {
    let mut command = python("uvicorn", "import uvicorn, httptools")?;
    command.args(["-m", "uvicorn", "--port=0", "--http=httptools"]).args(arguments);
    command.arg("--app-dir").arg(script("traffic/real_backends")).arg("asgi:application");
    Some(Server::start(command, tempfile::tempdir().unwrap(), "Uvicorn running on"))
}

/// An application and static files.
pub fn express() -> Option<Server> {
    express_with(&[])
}

/// An application and static files, with variables of the environment.
pub fn express_with(variables: &[(&str, &str)]) -> Option<Server> {
    let mut command = node("express")?;
    command.envs(variables.iter().copied());
    let folder = site();
    command.arg(script("traffic/real_backends/express.mjs")).env("SITE", folder.path().join("site"));
    Some(Server::start(command, folder, "listening on"))
}

/// An application on the HTTP server of the JDK.
pub fn java() -> Option<Server> {
    if is_missing("java", Command::new("javac").arg("-version")) {
        return None;
    }
    let mut command = Command::new("java");
    command.arg("-XX:TieredStopAtLevel=1").arg(script("traffic/real_backends/Application.java"));
    Some(Server::start(command, tempfile::tempdir().unwrap(), "listening on"))
}

/// A Python script of this folder that serves and prints its address.
pub fn python_script(name: &str, modules: &str) -> Option<Server> {
    let mut command = python(name, modules)?;
    command.arg(script("traffic/real_backends").join(name));
    Some(Server::start(command, tempfile::tempdir().unwrap(), "listening on"))
}

/// A script for Node in this folder that serves with a module and prints its address.
pub fn node_script(name: &str, module: &str) -> Option<Server> {
    let mut command = node(module)?;
    command.arg(script("traffic/real_backends").join(name));
    Some(Server::start(command, tempfile::tempdir().unwrap(), "listening on"))
}

/// Returns the Python that has these modules; `None` if they are not installed.
pub fn python(name: &str, modules: &str) -> Option<Command> {
    let python = installed("venv/bin/python");
    if is_missing(name, Command::new(&python).args(["-c", modules])) {
        return None;
    }
    let mut command = Command::new(python);
    // Python writes no compiled files beside the scripts, and does not buffer its output.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
    Some(command)
}

/// Returns the path of a daemon on Debian, which the `PATH` of a user may not have.
fn daemon(name: &str) -> PathBuf {
    let path = Path::new("/usr/sbin").join(name);
    if path.exists() { path } else { name.into() }
}

/// Reserves a port that the kernel chose. As long as the socket lives, only a server that reuses addresses can listen on the
/// port.
fn reserved() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket
}

/// A folder with the `site` of all servers of static files, readable for every user.
fn site() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let site = folder.path().join("site");
    let large: Vec<u8> = (0..4 * 1024 * 1024_u32).map(|n| (n / 7 % 251) as u8).collect();
    let events = format!("[{}]", vec!["{\"id\": 17}"; 2000].join(","));
    for (name, content) in [
        ("index.html", b"<h1>Events</h1>\n".as_slice()),
        ("events.json", events.as_bytes()),
        ("packed/events.json", events.as_bytes()),
        ("größe und länge.txt", "naïve\n".as_bytes()),
        ("100% a+b,c.txt", b"odd\n"),
        ("large.bin", &large),
        ("folder/index.html", b"<h1>Folder</h1>\n"),
        ("empty.txt", b""),
    ] {
        let file = site.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        // Apache gives a file a weak ETag until a second after it was written.
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        File::options().append(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    folder
}
