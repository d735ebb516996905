//! A PLC directory (<https://web.plc.directory>).

use std::{
    collections::{HashMap, HashSet},
    io,
    net::TcpStream,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;
use serde_json::json;

use super::{http, keys::Key, lies::Lies, listen::Waker, stream::Stream};
use crate::limits::HTTP_WRITE_TIMEOUT;

/// How a document names the signing key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DocumentForm {
    /// `Multikey` under an absolute id: today's form.
    Multikey,
    /// `Multikey` under the id `#atproto`.
    MultikeyRelative,
    /// A legacy type, the uncompressed point, the id `#atproto`.
    Legacy,
}

/// What the directory does wrong.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PlcFaults {
    /// Every request is answered 500.
    pub fail: bool,
    /// Every request is answered by something that is not HTTP.
    pub garbage: bool,
    /// Every answer comes this late.
    pub delay: Duration,
}

/// Makes the document of a DID on request, where it knows the DID.
pub type Generator = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The documents, and what was asked for.
#[derive(Default)]
pub struct Plc {
    documents: RwLock<HashMap<Arc<str>, Arc<str>>>,
    generator: OnceLock<Generator>,
    faults: Mutex<PlcFaults>,
    lies: Lies,
    /// Those who are lied about; nothing: everybody.
    lied_about: Mutex<Option<HashSet<String>>>,
    requests: AtomicU64,
    not_found: AtomicU64,
    /// Requests by DID.
    asked: Mutex<HashMap<String, u64>>,
}

impl std::fmt::Debug for Plc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plc({} requests)", self.requests())
    }
}

impl Plc {
    /// Makes further documents on request, so that more of them can be known than fit into memory;
    /// which of them were asked for is not kept. Only the first generator counts.
    pub fn set_generator(&self, generator: Generator) {
        let _ = self.generator.set(generator);
    }

    /// Sets the document of `did`, whatever it is.
    pub fn set(&self, did: &Arc<str>, document: &str) {
        let mut documents = self
            .documents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        documents.insert(did.clone(), document.into());
    }

    /// Does not know `did` any more.
    pub fn forget(&self, did: &Arc<str>) {
        let mut documents = self
            .documents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        documents.remove(did);
    }

    /// Makes the directory fail or hesitate from now on; the default ends that.
    pub fn set_faults(&self, faults: PlcFaults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// What it tells instead of documents.
    pub fn lies(&self) -> &Lies {
        &self.lies
    }

    /// The lies are told about these only; about everybody where there are none.
    pub fn lie_about(&self, dids: impl IntoIterator<Item = String>) {
        let dids: HashSet<_> = dids.into_iter().collect();
        let mut lied_about = self
            .lied_about
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *lied_about = (!dids.is_empty()).then_some(dids);
    }

    fn is_lied_about(&self, did: &str) -> bool {
        let lied_about = self
            .lied_about
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lied_about.as_ref().is_none_or(|dids| dids.contains(did))
    }

    /// `did` was there and is gone: the answer is 410 from now on. In the place of the document there
    /// is an empty text.
    pub fn set_gone(&self, did: &Arc<str>) {
        self.set(did, "");
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests for the document of `did` so far, however they were answered.
    pub fn requests_for(&self, did: &str) -> u64 {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(did).copied().unwrap_or_default()
    }

    /// Requests so far for what is not there.
    pub fn not_found(&self) -> u64 {
        self.not_found.load(Ordering::Relaxed)
    }

    /// Serves one connection.
    pub(crate) fn serve(
        &self,
        tcp: TcpStream,
        tls: Option<&Arc<ServerConfig>>,
        stop: &Waker,
    ) -> io::Result<()> {
        if self.lies.hold(stop) {
            return Ok(());
        }
        let mut stream = Stream::new(tcp, tls)?;
        let mut buffer = Vec::new();
        while let Some(request) = http::read_request(&mut stream, &mut buffer, stop)? {
            let did = http::percent_decode(request.path.trim_start_matches('/'));
            self.requests.fetch_add(1, Ordering::Relaxed);
            let generated = self.generator.get().and_then(|generate| generate(&did));
            if generated.is_none() {
                self.count(&did);
            }
            let faults = *self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            if !http::linger(&stream, stop, faults.delay)? {
                return Ok(());
            }
            if faults.garbage {
                let words = b"220 mail.test ESMTP at your service\r\n";
                return stream.send_all(words, stop, HTTP_WRITE_TIMEOUT);
            }
            if let Some(lie) = self.lies.get().filter(|_| self.is_lied_about(&did)) {
                let (_, document) = self.document(&did);
                if self.lies.tell(lie, &document, &mut stream, stop)? {
                    continue;
                }
                return Ok(());
            }
            let (status, body) = if faults.fail {
                (
                    "500 Internal Server Error",
                    json!({"message": "on purpose"}).to_string().into(),
                )
            } else if let Some(document) = generated {
                ("200 OK", document.into())
            } else {
                self.document(&did)
            };
            http::answer(&mut stream, stop, status, &body, request.keep_alive)?;
            if !request.keep_alive {
                return Ok(());
            }
        }
        Ok(())
    }

    fn count(&self, did: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry(did.to_owned()).or_default() += 1;
    }

    fn document(&self, did: &str) -> (&'static str, Arc<str>) {
        let documents = self
            .documents
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match documents.get(did) {
            Some(document) if document.is_empty() => {
                let message = format!("DID not available: {did}");
                ("410 Gone", json!({"message": message}).to_string().into())
            }
            Some(document) => ("200 OK", document.clone()),
            None => {
                self.not_found.fetch_add(1, Ordering::Relaxed);
                let message = format!("DID not registered: {did}");
                (
                    "404 Not Found",
                    json!({"message": message}).to_string().into(),
                )
            }
        }
    }
}

/// The document of an account: its handle, signing key and host (an `http` or `https` URL).
pub fn document(form: DocumentForm, did: &str, handle: &str, key: &Key, host: &str) -> String {
    let (id, kind, multibase) = match form {
        DocumentForm::Multikey => (format!("{did}#atproto"), "Multikey", key.multikey()),
        DocumentForm::MultikeyRelative => ("#atproto".into(), "Multikey", key.multikey()),
        DocumentForm::Legacy => ("#atproto".into(), key.legacy_type(), key.legacy_multibase()),
    };
    json!({
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": did,
        "alsoKnownAs": [format!("at://{handle}")],
        "verificationMethod": [{
            "id": id,
            "type": kind,
            "controller": did,
            "publicKeyMultibase": multibase,
        }],
        "service": [{
            "id": "#atproto_pds",
            "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": host,
        }],
    })
    .to_string()
}
