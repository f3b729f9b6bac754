//! A client of HTTP/1.1 that has nothing in common with the server: one connection, plain blocking reads.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// No answer takes longer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Client(BufReader<TcpStream>);

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case, a line each.
    pub(crate) fields: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn get(&mut self, path: &str, accepted: &str) -> Result<Answer> {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: {accepted}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(Error::other("the connection was closed"));
            }
        }
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let fields = head.to_ascii_lowercase();
        let length = fields.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.and_then(|length| length.trim().parse().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(Error::other(format!("not understood: {head}")));
        };
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, fields, body })
    }

    /// A page, uncompressed.
    pub(crate) fn page(&mut self, name: &str) -> Result<Vec<u8>> {
        let answer = self.get(&format!("/page/{name}"), "identity")?;
        assert_eq!(answer.status, 200, "{name}");
        Ok(answer.body)
    }

    pub(crate) fn stats(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.get("/stats", "identity")?.body).into_owned())
    }
}
