//! An HTTP server that answers what it is told to and remembers what it was asked.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// What is answered to a path: the status line's end and further header lines, and the body.
pub(crate) type Answer = (String, String);

struct Shared {
    /// The heads of all requests.
    heads: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// The server; dropping it ends it.
pub(crate) struct Plain {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Plain {
    /// Serves what `answer` says to each path; it may take its time.
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Plain {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            heads: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let (serving, answer) = (shared.clone(), Arc::new(answer));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (shared, answer) = (serving.clone(), answer.clone());
                // It ends with its connection, which ends with who asks.
                std::thread::spawn(move || shared.serve(stream, &*answer));
            }
        });
        Plain {
            port,
            shared,
            accepting: Some(accepting),
        }
    }

    /// `localhost:PORT`.
    pub(crate) fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // The listener looks up when somebody comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let ended = self.accepting.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

impl Shared {
    /// Answers one request.
    fn serve(&self, mut stream: TcpStream, answer: &dyn Fn(&str) -> Answer) {
        let mut head = String::new();
        for line in BufReader::new(&stream).lines() {
            match line {
                Ok(line) if !line.is_empty() => head.push_str(&(line + "\n")),
                _ => break,
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        if path.is_empty() {
            return;
        }
        self.heads.lock().unwrap().push(head);
        let (head, body) = answer(&path);
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
}
