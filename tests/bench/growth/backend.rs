//! A backend that needs little CPU. The last segment of the path is the size of the answer's body in bytes.

use std::io;
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client;

/// Starts the backend on its own thread until the program ends; returns its URL.
pub fn start() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        client::run(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                if let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket));
                }
            }
        });
    });
    format!("http://{address}")
}

async fn serve(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut read, mut buffer) = (Vec::new(), vec![0; 256 << 10]);
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            match socket.read(&mut buffer).await? {
                0 => return Ok(()),
                length => read.extend_from_slice(&buffer[..length]),
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        let mut left = length_of(&head).saturating_sub(read.len() - end);
        read.clear();
        while left > 0 {
            match socket.read(&mut buffer).await? {
                0 => return Ok(()),
                length => left = left.saturating_sub(length),
            }
        }
        answer(&mut socket, size_of(&head)).await?;
    }
}

fn length_of(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// Returns the size in the path: 1024 for `GET /any/1024 HTTP/1.1`.
fn size_of(head: &str) -> usize {
    let path = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next());
    path.and_then(|size| size.parse().ok()).unwrap_or(0)
}

async fn answer(socket: &mut TcpStream, size: usize) -> io::Result<()> {
    static PART: [u8; 64 << 10] = [b'a'; 64 << 10];
    let mut part = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    let mut left = size;
    loop {
        let length = left.min(PART.len());
        part.extend_from_slice(&PART[..length]);
        socket.write_all(&part).await?;
        part.clear();
        left -= length;
        if left == 0 {
            return Ok(());
        }
    }
}
