//! A silent TLS server with a certificate of the stack.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::stack_env;

/// OpenSSL's server on loopback, gone when it is dropped.
pub(crate) struct TlsStub {
    child: Child,
    port: u16,
}

impl TlsStub {
    /// Starts a server with the certificate of this name; a strict one wants a certificate of its clients.
    #[track_caller]
    pub(crate) fn start(certificate: &str, strict: bool) -> Self {
        let file = |name: &str| format!("{}/{name}", stack_env("SDL_TEST_TLS"));
        let mut openssl = Command::new("openssl");
        openssl.args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert", &file(&format!("{certificate}.pem"))]);
        openssl.args(["-key", &file(&format!("{certificate}.key"))]);
        if strict {
            openssl.args(["-Verify", "1", "-verify_return_error", "-CAfile", &file("ca.pem")]);
        }
        let mut child = openssl.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let accepts = lines.find_map(|line| line.ok()?.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        // Its further output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: accepts.expect("it says where it listens") }
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

impl Drop for TlsStub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
