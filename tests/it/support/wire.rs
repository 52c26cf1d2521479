//! A raw RESP client: bytes out, whole frames in, nothing decoded.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hearthside::resp::reply::{Frame, ReplyScanner};
use socket2::{Domain, Type};

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

pub struct Wire {
    socket: Socket,
    buffer: Vec<u8>,
}

/// A client for which the kernel keeps little.
pub fn connect_narrow(port: u16) -> TcpStream {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("connects");
    socket.into()
}

/// A request as an array of bulk strings.
pub fn array<A: AsRef<[u8]>>(words: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.as_ref().len()).as_bytes());
        out.extend_from_slice(word.as_ref());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A request from a line of words.
pub fn line(text: &str) -> Vec<u8> {
    array(&text.split(' ').collect::<Vec<_>>())
}

impl Wire {
    pub fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        Self { socket: Socket::Tcp(stream), buffer: Vec::new() }
    }

    /// That of a connection which is there.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        Self { socket: Socket::Tcp(stream), buffer: Vec::new() }
    }

    /// A client of a server that may be away, with so much patience for an answer.
    pub fn try_tcp(port: u16, patience: Duration) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        Some(Self { socket: Socket::Tcp(stream), buffer: Vec::new() })
    }

    /// One request of words, its reply as text; `None` when it does not come.
    pub fn try_ask(&mut self, text: &str) -> Option<String> {
        let request = line(text);
        let sent = match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(&request),
            Socket::Unix(stream) => stream.write_all(&request),
        };
        sent.ok()?;
        let mut scanner = ReplyScanner::default();
        let mut seen = 0;
        loop {
            let scanned = scanner.scan(&self.buffer[seen..]).expect("a reply");
            seen += scanned.used;
            if let Some(Frame::Reply) = scanned.end {
                return Some(String::from_utf8_lossy(&self.buffer.drain(..seen).collect::<Vec<u8>>()).into_owned());
            }
            if !matches!(self.read(), Ok(1..)) {
                return None;
            }
        }
    }

    /// The same connection, to send on while another thread reads.
    pub fn twin(&self) -> Self {
        let socket = match &self.socket {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone().expect("a socket")),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone().expect("a socket")),
        };
        Self { socket, buffer: Vec::new() }
    }

    pub fn unix(path: &str) -> Self {
        let stream = UnixStream::connect(path).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        Self { socket: Socket::Unix(stream), buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes).expect("sends"),
            Socket::Unix(stream) => stream.write_all(bytes).expect("sends"),
        }
    }

    /// False when the other side takes no more.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes).is_ok(),
            Socket::Unix(stream) => stream.write_all(bytes).is_ok(),
        }
    }

    /// As [`Wire::finish_sending`], where the other side may be gone.
    pub fn try_finish_sending(&self) {
        let _gone = match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    fn read(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 16384];
        let n = match &mut self.socket {
            Socket::Tcp(stream) => stream.read(&mut chunk),
            Socket::Unix(stream) => stream.read(&mut chunk),
        }?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// The next frame, a reply or a push message.
    pub fn frame(&mut self) -> Vec<u8> {
        self.try_frame().unwrap_or_else(|| panic!("closed after {:?}", String::from_utf8_lossy(&self.buffer)))
    }

    /// The next frame; `None` when the other side closed.
    pub fn try_frame(&mut self) -> Option<Vec<u8>> {
        let mut scanner = ReplyScanner::default();
        let mut seen = 0;
        loop {
            let scanned = scanner.scan(&self.buffer[seen..]).expect("a reply");
            seen += scanned.used;
            if let Some(Frame::Reply | Frame::Push) = scanned.end {
                return Some(self.buffer.drain(..seen).collect());
            }
            match self.read() {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}; have {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        }
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.read() {
                Ok(0) => return std::mem::take(&mut self.buffer),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return std::mem::take(&mut self.buffer),
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    /// What comes next, whatever it is.
    pub fn take_some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            assert!(self.read().expect("more") > 0, "closed");
        }
        std::mem::take(&mut self.buffer)
    }

    /// The next frame, as text.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.frame()).into_owned()
    }

    /// One request of words, its reply as text.
    pub fn ask(&mut self, text: &str) -> String {
        self.send(&line(text));
        self.text()
    }

    /// The same, whatever is pushed before it.
    pub fn ask_past_pushes(&mut self, text: &str) -> String {
        self.send(&line(text));
        loop {
            let told = self.text();
            if !told.starts_with('>') {
                return told;
            }
        }
    }

    /// The same for a client that may monitor: what it is shown meanwhile is left out.
    pub fn ask_monitoring(&mut self, text: &str) -> String {
        self.send(&line(text));
        let start = Instant::now();
        loop {
            let frame = self.frame();
            if frame[0] != b'+' || !frame[1].is_ascii_digit() {
                return String::from_utf8_lossy(&frame).into_owned();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no reply to {text}");
        }
    }

    /// One request of any words, its reply as bytes.
    pub fn call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Vec<u8> {
        self.send(&array(words));
        self.frame()
    }

    pub fn finish_sending(&self) {
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .expect("open");
    }

    /// True when nothing comes for a moment.
    pub fn is_silent(&mut self, moment: Duration) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        let patience = |socket: &Socket, time| match socket {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(time)),
            Socket::Unix(stream) => stream.set_read_timeout(Some(time)),
        };
        patience(&self.socket, moment).expect("a socket");
        let silent =
            matches!(self.read(), Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        patience(&self.socket, Duration::from_secs(20)).expect("a socket");
        silent
    }
}
