//! A whole host in this process, for the fuzzers that speak to one.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use tidegate::config::Config;
use tidegate::host::Host;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A host that runs until the process ends.
pub struct Running {
    /// Where its gateway listens.
    pub gateway: SocketAddr,
    /// Where its S3 endpoint listens.
    pub s3: SocketAddr,
    _runtime: tokio::runtime::Runtime,
    _host: Host,
    _folder: tempfile::TempDir,
}

impl Running {
    /// The one host of this process.
    pub fn get() -> &'static Self {
        static HOST: OnceLock<Running> = OnceLock::new();
        HOST.get_or_init(Self::start)
    }

    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config {
            data_dir: folder.path().join("data"),
            ..Config::default()
        };
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        (config.gateway.listen, config.s3.listen) = (anywhere, anywhere);
        config.inference.listen = anywhere;
        config.worker.start = false;
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let host = runtime.block_on(Host::start(config, None)).expect("a host");
        Self {
            gateway: host.gateway(),
            s3: host.s3(),
            _runtime: runtime,
            _host: host,
            _folder: folder,
        }
    }
}

/// Sends a whole request that asks for the connection to be closed, and reads what comes back until it is. Its own half
/// stays open: a server takes a client that closes it for one that has gone, and answers no more.
pub fn ask(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    // A host that has seen enough may close the connection before it has read everything.
    let sent = stream.write_all(request);
    match (sent, stream.read_to_end(&mut answer)) {
        (_, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(answer),
    }
}
