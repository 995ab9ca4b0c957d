//! A reverse proxy that breaks things on purpose, between layerfs and a real registry. One request a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    /// Requests before this one with the same method and path.
    pub(crate) earlier: usize,
}

impl Seen {
    /// A header's value; the name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it gets something whose path contains `part`.
    pub(crate) fn gets(&self, part: &str) -> bool {
        self.method == "GET" && self.path.contains(part)
    }
}

/// What is done to one exchange.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The answer's body breaks off after so many bytes: by a reset.
    Reset(u64),
    /// The same by an orderly end.
    Truncate(u64),
    /// After so many bytes of the answer's body nothing more comes.
    Stall(u64),
    /// After so many bytes of the answer's body the rest comes a byte at a time.
    Drip(u64),
    /// The connection is reset after so many bytes of the request's body.
    ResetUpload(u64),
    /// This byte of the answer's body is changed.
    Corrupt(u64),
    /// The announced length is this much larger than what comes.
    Longer(u64),
    /// The registry is not asked; this is the answer.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// The registry is asked for this path instead.
    Rewrite(String),
    /// The registry is not asked; an endless body of zero bytes of the announced length.
    Zeros(u64),
}

impl Fault {
    /// An answer with a status and nothing else.
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    /// An answer with a status and one header.
    pub(crate) fn status_with(status: u16, name: &str, value: impl Into<String>) -> Self {
        Self::Answer { status, headers: vec![(name.to_owned(), value.into())], body: Vec::new() }
    }
}

/// The header under which rules see the body of a form.
pub(crate) const FORM: &str = "x-test-form";

/// Decides what is done to a request; nothing lets it pass.
pub(crate) type Rule = dyn Fn(&Seen) -> Option<Fault> + Send + Sync;

/// A running proxy. Ends when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
}

struct Shared {
    upstream: String,
    rule: Box<Rule>,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts a proxy in front of the registry at `upstream`.
    pub(crate) fn start(upstream: &str, rule: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (seen, ended) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let shared = Shared {
            upstream: upstream.to_owned(),
            rule: Box::new(rule),
            seen: Arc::clone(&seen),
            ended: Arc::clone(&ended),
        };
        let shared = Arc::new(shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), shared) = (client, Arc::clone(&shared)) else { continue };
                // A client that goes away in the middle is what these tests are about.
                std::thread::spawn(move || {
                    let _ = shared.serve(&client);
                });
            }
        });
        Self { port, seen, ended }
    }

    /// Its name in references.
    pub(crate) fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Everything that was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests of `method` whose path contains `part`.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == method && seen.path.contains(part)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the listening thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// The head of a request or an answer.
#[derive(Clone)]
struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let line = |stream: &mut dyn BufRead| {
            let mut bytes = Vec::new();
            stream.take(64 << 10).read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
        };
        let first = line(stream)?;
        let mut headers = Vec::new();
        loop {
            let text = line(stream)?;
            let Some((name, value)) = text.split_once(':') else { break };
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Self { first, headers })
    }

    fn length(&self) -> Option<u64> {
        self.headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "connection") {
            text = text + name + ": " + value + "\r\n";
        }
        (text + "connection: close\r\n\r\n").into_bytes()
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(client.try_clone()?);
        // A TLS client asks first; it is told that this is something else.
        if reader.fill_buf()?.first() == Some(&0x16) {
            return (&*client).write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
        let mut head = Head::read(&mut reader)?;
        if head.headers.iter().any(|(name, value)| name == "content-type" && value.contains("form-urlencoded")) {
            let mut form = vec![0; usize::try_from(head.length().unwrap_or(0)).unwrap_or(0)];
            reader.read_exact(&mut form)?;
            head.headers.retain(|(name, _)| name != "content-length");
            head.headers.push((FORM.to_owned(), String::from_utf8_lossy(&form).into_owned()));
        }
        let seen = self.note(&head);
        let fault = (self.rule)(&seen);
        match fault {
            Some(Fault::Answer { status, headers, body }) => {
                io::copy(&mut (&mut reader).take(head.length().unwrap_or(0)), &mut io::sink())?;
                answer(client, &seen, status, &headers, &body)
            }
            Some(Fault::Zeros(length)) => {
                (&*client).write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes())?;
                io::copy(&mut io::repeat(0).take(length), &mut &*client).map(|_| ())
            }
            fault => self.forward(client, reader, &head, fault.as_ref()),
        }
    }

    fn note(&self, head: &Head) -> Seen {
        let mut words = head.first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = all.iter().filter(|seen| seen.method == method && seen.path == path).count();
        let seen = Seen { method, path, headers: head.headers.clone(), earlier };
        all.push(seen.clone());
        seen
    }

    fn forward(
        &self,
        client: &TcpStream,
        mut reader: BufReader<TcpStream>,
        head: &Head,
        fault: Option<&Fault>,
    ) -> io::Result<()> {
        let mut upstream = TcpStream::connect(&self.upstream)?;
        let mut head = head.clone();
        if let Some(Fault::Rewrite(path)) = fault {
            let method = head.first.split(' ').next().unwrap_or_default().to_owned();
            head.first = format!("{method} {path} HTTP/1.1");
        }
        upstream.write_all(&head.bytes())?;
        let length = head.length().unwrap_or(0);
        if let Some(Fault::ResetUpload(after)) = fault {
            io::copy(&mut (&mut reader).take((*after).min(length)), &mut upstream)?;
            return reset(client);
        }
        io::copy(&mut (&mut reader).take(length), &mut upstream)?;
        let mut answer = BufReader::new(upstream);
        let mut answer_head = Head::read(&mut answer)?;
        if let (Some(Fault::Longer(by)), Some(length)) = (fault, answer_head.length()) {
            for (name, value) in &mut answer_head.headers {
                if name == "content-length" {
                    *value = (length + by).to_string();
                }
            }
        }
        (&*client).write_all(&answer_head.bytes())?;
        // An answer shorter than where it should break is left alone.
        let short = |after: u64| answer_head.length().is_some_and(|length| length <= after);
        match fault {
            Some(
                Fault::Reset(after)
                | Fault::Truncate(after)
                | Fault::Stall(after)
                | Fault::Drip(after)
                | Fault::Corrupt(after),
            ) if short(*after) => io::copy(&mut answer, &mut &*client).map(|_| ()),
            Some(Fault::Reset(after)) => {
                io::copy(&mut (&mut answer).take(*after), &mut &*client)?;
                reset(client)
            }
            Some(Fault::Truncate(after)) => io::copy(&mut (&mut answer).take(*after), &mut &*client).map(|_| ()),
            Some(Fault::Stall(after)) => {
                io::copy(&mut (&mut answer).take(*after), &mut &*client)?;
                // Until the client has had enough.
                io::copy(&mut reader, &mut io::sink()).map(|_| ())
            }
            Some(Fault::Drip(after)) => {
                io::copy(&mut (&mut answer).take(*after), &mut &*client)?;
                for byte in answer.bytes() {
                    (&*client).write_all(&[byte?])?;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
            Some(Fault::Corrupt(at)) => {
                io::copy(&mut (&mut answer).take(*at), &mut &*client)?;
                let mut byte = [0];
                answer.read_exact(&mut byte)?;
                (&*client).write_all(&[byte[0] ^ 0x55])?;
                io::copy(&mut answer, &mut &*client).map(|_| ())
            }
            _ => io::copy(&mut answer, &mut &*client).map(|_| ()),
        }
    }
}

fn answer(client: &TcpStream, seen: &Seen, status: u16, headers: &[(String, String)], body: &[u8]) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} Answer\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in headers {
        text = text + name + ": " + value + "\r\n";
    }
    let mut client = client;
    client.write_all((text + "\r\n").as_bytes())?;
    if seen.method == "HEAD" { Ok(()) } else { client.write_all(body) }
}

/// Closes the connection with a reset instead of an orderly end.
fn reset(client: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
    Ok(())
}
