//! A backend in a network namespace of its own, whose packets can be swallowed: those on open connections too.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::backend::{Backend, Mood};
use crate::client;

/// What this program is called with, to be the backend.
pub const SERVE: &str = "serve-at";

const PORT: u16 = 8080;

/// Goes with what is in it.
pub struct Namespace {
    name: String,
    here: Ipv4Addr,
    there: Ipv4Addr,
    backend: Option<Child>,
}

impl Namespace {
    /// With a backend that is well.
    pub fn start() -> Self {
        let process = std::process::id();
        // Of the addresses for trials of networks (RFC 2544), so that nothing real is hidden.
        let block = u8::try_from(process % 256).unwrap();
        let (here, there) = (Ipv4Addr::new(198, 18, block, 1), Ipv4Addr::new(198, 18, block, 2));
        let name = format!("events-{process}");
        let (near, far) = (format!("near{process}"), format!("far{process}"));
        let mut namespace = Self { name, here, there, backend: None };
        let inside = namespace.name.clone();
        ip(&format!("netns add {inside}"));
        ip(&format!("link add {near} type veth peer name {far} netns {inside}"));
        ip(&format!("address add {here}/30 dev {near}"));
        ip(&format!("link set {near} up"));
        ip(&format!("-n {inside} address add {there}/30 dev {far}"));
        ip(&format!("-n {inside} link set {far} up"));
        let program = env::current_exe().unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &inside]).arg(program).arg(SERVE).arg(namespace.address().to_string());
        namespace.backend = Some(command.stdin(Stdio::piped()).spawn().unwrap());
        let start = Instant::now();
        while TcpStream::connect(namespace.address()).is_err() {
            assert!(start.elapsed() < client::PATIENCE, "the backend in {inside} does not listen");
        }
        namespace
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddrV4::new(self.there, PORT).into()
    }

    /// What comes from here is not answered any more, and not refused either.
    pub fn swallows(&self) {
        ip(&format!("-n {} route add blackhole {}/32", self.name, self.here));
    }

    pub fn answers_again(&self) {
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

fn ip(what: &str) {
    let done = Command::new("ip").args(what.split(' ')).status();
    assert!(done.is_ok_and(|status| status.success()), "`ip {what}` failed; it takes root, and iproute2");
}

/// Is the backend, until whoever started it goes.
pub fn serve(address: &str) {
    let _backend = Backend::start_at(address.parse().unwrap(), Mood::Well);
    let _ = std::io::stdin().read_line(&mut String::new());
}
