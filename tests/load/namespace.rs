//! A backend in its own network namespace, whose packets can be dropped, also on open connections.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::backend::{Behaviour, FaultyBackend};
use crate::client;

/// First argument of this program when it runs as the backend.
pub const SERVE: &str = "serve-at";

const PORT: u16 = 8080;

/// A network namespace with a working backend. Both end when the value is dropped.
pub struct Namespace {
    name: String,
    /// Address of this program's end of the link.
    here: Ipv4Addr,
    /// Address of the backend's end of the link.
    there: Ipv4Addr,
    backend: Option<Child>,
}

impl Namespace {
    pub fn start() -> Self {
        let process = std::process::id();
        // These addresses are reserved for tests of networks (RFC 2544), so that they hide no real host.
        let block = u8::try_from(process % 256).unwrap();
        let (here, there) = (Ipv4Addr::new(198, 18, block, 1), Ipv4Addr::new(198, 18, block, 2));
        let mut namespace = Self { name: format!("events-{process}"), here, there, backend: None };
        namespace.link(process);
        let program = env::current_exe().unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace.name]).arg(program);
        command.arg(SERVE).arg(namespace.address().to_string());
        namespace.backend = Some(command.stdin(Stdio::piped()).spawn().unwrap());
        let start = Instant::now();
        while TcpStream::connect(namespace.address()).is_err() {
            assert!(start.elapsed() < client::DEADLINE, "the backend in {} does not listen", namespace.name);
        }
        namespace
    }

    /// Makes the namespace, and a link between it and the namespace of this program.
    fn link(&self, process: u32) {
        let Self { name, here, there, .. } = self;
        let (near, far) = (format!("near{process}"), format!("far{process}"));
        ip(&format!("netns add {name}"));
        ip(&format!("link add {near} type veth peer name {far} netns {name}"));
        ip(&format!("address add {here}/30 dev {near}"));
        ip(&format!("link set {near} up"));
        ip(&format!("-n {name} address add {there}/30 dev {far}"));
        ip(&format!("-n {name} link set {far} up"));
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddrV4::new(self.there, PORT).into()
    }

    /// Drops every packet to this program. No connection is refused or reset.
    pub fn drop_packets(&self) {
        ip(&format!("-n {} route add blackhole {}/32", self.name, self.here));
    }

    pub fn deliver_packets(&self) {
        ip(&format!("-n {} route delete blackhole {}/32", self.name, self.here));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(mut backend) = self.backend.take() {
            let _ = backend.kill();
            let _ = backend.wait();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "`ip {arguments}` failed; it needs root and iproute2"
    );
}

/// Runs as the backend until the parent process closes standard input.
pub fn serve(address: &str) {
    let _backend = FaultyBackend::start_at(address.parse().unwrap(), Behaviour::Working);
    let _ = std::io::stdin().read_line(&mut String::new());
}
