//! TLS to an https origin: rustls driven over a non-blocking socket of the event loop.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::error::{Error, Kind, Side};
use crate::rt::lock::Lock;
use crate::rt::{Runtime, Socket};
use crate::sys::{socket, would_block};

/// Bytes of TLS records taken from the socket at a time.
const RECORDS: usize = 64 * 1024;

/// The authorities an https origin is checked against; shared by all workers, so that sessions
/// are resumed too, and new ones reach all of them.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Lock<Arc<ClientConfig>>>);

impl Trust {
    /// Loads the system's authorities (SSL_CERT_FILE, SSL_CERT_DIR), those of NODE_EXTRA_CA_CERTS,
    /// and the built-in list when the system has none. Blocks; not for a worker. Also returns what
    /// could not be read, one line each.
    pub fn load() -> Result<(Self, Vec<String>), String> {
        let (config, complaints) = load().map_err(|error| format!("cannot set up TLS: {error}"))?;
        Ok((Self(Arc::new(Lock::new(config))), complaints))
    }

    /// Loads them again, for connections made from now on. Blocks; not for a worker.
    pub fn reload(&self) -> Result<Vec<String>, String> {
        let (config, complaints) = load()?;
        *self.0.lock() = config;
        Ok(complaints)
    }

    fn current(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.lock())
    }
}

fn load() -> Result<(Arc<ClientConfig>, Vec<String>), String> {
    let native = rustls_native_certs::load_native_certs();
    let mut complaints: Vec<String> = native.errors.iter().map(ToString::to_string).collect();
    let mut certificates = native.certs;
    if let Some(path) = std::env::var_os("NODE_EXTRA_CA_CERTS").filter(|path| !path.is_empty()) {
        let read = CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(extra) => certificates.extend(extra),
            Err(error) => complaints.push(format!("NODE_EXTRA_CA_CERTS {}: {error}", path.display())),
        }
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = config(roots, certificates, provider).map_err(|error| error.to_string())?;
    Ok((Arc::new(config), complaints))
}

fn config(
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let inner =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinningVerifier { inner, pinned: certificates }))
        .with_no_client_auth())
}

/// The usual verification; and a server's certificate that is byte-equal to one the operator
/// installed is accepted although it is marked as an authority, as self-signed ones often are.
struct PinningVerifier {
    inner: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for PinningVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinningVerifier").field("pinned", &self.pinned.len()).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for PinningVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            // Before this error the dates have been checked, and the name has not.
            Err(error) if is_authority_used_as_server(&error) && self.pinned.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_authority_used_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// A TLS connection. Nothing is borrowed across a wait, so reading and writing may go on at once.
pub struct TlsStream<R: Runtime> {
    socket: Rc<R::Socket>,
    state: RefCell<State<R::Socket>>,
}

struct State<S> {
    session: ClientConnection,
    /// Received records that rustls has not taken yet.
    records: BufReader<Raw<S>>,
}

impl<R: Runtime> TlsStream<R> {
    /// Performs the handshake; the caller bounds its time.
    pub async fn handshake(socket: R::Socket, host: &str, trust: &Trust) -> Result<Self, Error> {
        let failed = |error: &dyn fmt::Display| Error::with(Side::Origin, Kind::Tls, error);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let session = ClientConnection::new(trust.current(), name).map_err(|error| failed(&error))?;
        let socket = Rc::new(socket);
        let records = BufReader::with_capacity(RECORDS, Raw(Rc::clone(&socket)));
        let stream = Self { socket, state: RefCell::new(State { session, records }) };
        while stream.state.borrow().session.is_handshaking() {
            let step = stream.state.borrow_mut().handshake();
            let waited = match step {
                Err(error) if would_block(&error) && !stream.is_flushed() => stream.socket.writable().await,
                Err(error) if would_block(&error) => stream.socket.readable().await,
                result => result,
            };
            waited.map_err(|error| failed(&error))?;
        }
        Ok(stream)
    }

    /// The socket under it.
    pub fn socket(&self) -> &R::Socket {
        &self.socket
    }

    /// Reads payload that has been received; 0 is a proper end (close_notify), an end without one `UnexpectedEof`.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        let mut filled = 0;
        // rustls gives the payload of one record at a time.
        while filled < buffer.len() {
            match state.session.reader().read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if would_block(&error) => match state.receive() {
                    // The error of what follows shows again at the next read.
                    Err(_) if filled > 0 => break,
                    received => received?,
                },
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Takes what fits of `bytes` and sends what the socket takes of it.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        state.flush()?;
        state.session.writer().write(bytes)
    }

    /// Whether everything written has been sent. Sends more of it if not.
    pub fn is_flushed(&self) -> bool {
        let mut state = self.state.borrow_mut();
        // An error shows again at the write that follows.
        drop(state.flush());
        !state.session.wants_write()
    }
}

impl<S: AsFd> State<S> {
    /// One step of the handshake: sends what is due, then receives.
    fn handshake(&mut self) -> io::Result<()> {
        self.flush()?;
        self.receive()?;
        self.flush()?;
        if self.session.is_handshaking() && !self.session.wants_read() && !self.session.wants_write() {
            // The peer has closed its side of TLS before the end of the handshake.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(self.records.get_mut())?;
        }
        Ok(())
    }

    /// Passes received bytes to rustls, as many as fit into its own buffer.
    fn receive(&mut self) -> io::Result<()> {
        let count = self.session.read_tls(&mut self.records)?;
        let processed = self.session.process_new_packets();
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if count == 0 && self.session.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// The socket as rustls reads from it and writes to it.
struct Raw<S>(Rc<S>);

impl<S: AsFd> Read for Raw<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::recv(&self.0, buffer)
    }
}

impl<S: AsFd> Write for Raw<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::send(&self.0, bytes, false)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
