//! SCRAM (RFC 5802 and 7677), as Kafka has it: names and passwords are not normalised.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::digest::{Digest, KeyInit};
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha512};

use crate::connectors::kafka::wire::error::WireError;
use crate::profile::Secret;

/// The rounds that Kafka wants at least, and those that take about a second.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;

/// The hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    /// Of SCRAM-SHA-256.
    Sha256,
    /// Of SCRAM-SHA-512.
    Sha512,
}

impl ScramHash {
    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        fn of<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
            // A key of any length is accepted.
            <M as KeyInit>::new_from_slice(key)
                .map_or_else(|_| Vec::new(), |mac| mac.chain_update(bytes).finalize().into_bytes().to_vec())
        }
        match self {
            Self::Sha256 => of::<Hmac<Sha256>>(key, bytes),
            Self::Sha512 => of::<Hmac<Sha512>>(key, bytes),
        }
    }

    /// Derives a key from a password: `Hi` of the RFC.
    fn salted(self, password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
        fn of<M: Mac + KeyInit + Clone>(password: &[u8], salt: &[u8], rounds: u32) -> Vec<u8> {
            let Ok(keyed) = <M as KeyInit>::new_from_slice(password) else { return Vec::new() };
            let mut last = keyed.clone().chain_update(salt).chain_update([0, 0, 0, 1]).finalize().into_bytes();
            let mut salted = last.to_vec();
            for _ in 1..rounds {
                last = keyed.clone().chain_update(&last).finalize().into_bytes();
                salted.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
            }
            salted
        }
        match self {
            Self::Sha256 => of::<Hmac<Sha256>>(password, salt, rounds),
            Self::Sha512 => of::<Hmac<Sha512>>(password, salt, rounds),
        }
    }
}

/// The client's side of one login.
pub struct ScramExchange {
    hash: ScramHash,
    password: Secret,
    nonce: String,
    first_bare: String,
    /// What the broker's last message has to be, once the proof is sent.
    signature: Option<Vec<u8>>,
}

impl ScramExchange {
    /// Returns the exchange and its first message.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(super) fn start(hash: ScramHash, username: &str, password: Secret) -> Result<(Self, Vec<u8>), WireError> {
        let mut random = [0; 24];
        getrandom::fill(&mut random).map_err(|error| WireError::Credentials(format!("no random numbers: {error}")))?;
        Ok(Self::with_nonce(hash, username, password, BASE64_STANDARD.encode(random)))
    }

    fn with_nonce(hash: ScramHash, username: &str, password: Secret, nonce: String) -> (Self, Vec<u8>) {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={name},r={nonce}");
        let message = format!("n,,{first_bare}").into_bytes();
        (Self { hash, password, nonce, first_bare, signature: None }, message)
    }

    /// Returns what follows the broker's message; `None` when the broker has proved that it knows the password.
    ///
    /// # Errors
    /// When the message is not valid or the proof is wrong.
    pub(super) fn next(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let message = std::str::from_utf8(message).map_err(|_| WireError::InvalidLogin("they are not UTF-8"))?;
        match self.signature.take() {
            None => self.proof(message).map(Some),
            Some(signature) => {
                if let Some(error) = message.strip_prefix("e=") {
                    return Err(WireError::AuthenticationFailed(error.to_owned()));
                }
                let signed = message.split(',').next().and_then(|field| field.strip_prefix("v="));
                let signed = signed.and_then(|signed| BASE64_STANDARD.decode(signed).ok());
                if signed.is_none_or(|signed| signed != signature) {
                    return Err(WireError::InvalidLogin("the broker does not prove that it knows the password"));
                }
                Ok(None)
            }
        }
    }

    fn proof(&mut self, first: &str) -> Result<Vec<u8>, WireError> {
        if let Some(error) = first.strip_prefix("e=") {
            return Err(WireError::AuthenticationFailed(error.to_owned()));
        }
        let mut fields = first.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(rounds)) = (field("r="), field("s="), field("i=")) else {
            return Err(WireError::InvalidLogin("nonce, salt or iteration count is missing"));
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(WireError::InvalidLogin("the nonce is not an extension of the client's"));
        }
        let salt = BASE64_STANDARD.decode(salt).map_err(|_| WireError::InvalidLogin("the salt is not base64"))?;
        let rounds = rounds.parse().ok().filter(|rounds| ROUNDS.contains(rounds));
        let rounds = rounds.ok_or(WireError::InvalidLogin("the iteration count is out of range"))?;
        let salted = self.hash.salted(self.password.reveal().as_bytes(), &salt, rounds);
        // "biws" is the header of the first message, `n,,`.
        let last = format!("c=biws,r={nonce}");
        let signed = format!("{},{first},{last}", self.first_bare);
        let client_key = self.hash.hmac(&salted, b"Client Key");
        let client_signature = self.hash.hmac(&self.hash.hash(&client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&client_signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = self.hash.hmac(&salted, b"Server Key");
        self.signature = Some(self.hash.hmac(&server_key, signed.as_bytes()));
        Ok(format!("{last},p={}", BASE64_STANDARD.encode(proof)).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(hash: ScramHash, nonce: &str) -> ScramExchange {
        ScramExchange::with_nonce(hash, "user", Secret::new("pencil".to_owned()), nonce.to_owned()).0
    }

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn the_messages_of_rfc_7677() {
        let (mut exchange, first) = ScramExchange::with_nonce(
            ScramHash::Sha256,
            "user",
            Secret::new("pencil".to_owned()),
            "rOprNGfwEbeRWgbNEkqO".to_owned(),
        );
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let last = exchange.next(SERVER_FIRST.as_bytes()).unwrap().unwrap();
        assert_eq!(
            String::from_utf8(last).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(exchange.next(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap(), None);
    }

    #[test]
    fn sha_512_derives_what_openssl_derives() {
        // openssl kdf -keylen 64 -kdfopt digest:SHA512 -kdfopt pass:pencil -kdfopt salt:salt -kdfopt iter:4096 PBKDF2
        let salted = ScramHash::Sha512.salted(b"pencil", b"salt", 4096);
        let expected = "LP46HBUWYrHqSdE/WVZ0ocZmrdcN8V09AiVOmQWZOHgmHadAf9EcL+5LCjDfUVSxp1L4ahM4Dd1L3Zp8lY7HaQ==";
        assert_eq!(BASE64_STANDARD.encode(salted), expected);
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_detected() {
        let mut exchange = exchange(ScramHash::Sha256, "rOprNGfwEbeRWgbNEkqO");
        exchange.next(SERVER_FIRST.as_bytes()).unwrap();
        assert!(exchange.next(b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
    }

    #[test]
    fn a_user_s_name_may_have_commas() {
        let (_, first) = ScramExchange::with_nonce(ScramHash::Sha512, "a,b=c", Secret::new(String::new()), "x".to_owned());
        assert_eq!(first, b"n,,n=a=2Cb=3Dc,r=x");
    }

    #[test]
    fn invalid_messages_are_errors() {
        for message in [
            "",
            "r=",
            "r=n,s=,i=4096",
            "r=other,s=AAAA,i=4096",
            "r=nX,s=?,i=4096",
            "r=nX,s=AAAA,i=1",
            "r=nX,s=AAAA,i=4000000000",
            "r=nX,s=AAAA,i=-1",
            "s=AAAA,r=nX,i=4096",
            "e=unknown-user",
        ] {
            assert!(exchange(ScramHash::Sha256, "n").next(message.as_bytes()).is_err(), "{message}");
        }
        assert!(exchange(ScramHash::Sha256, "n").next(b"\xff").is_err());
        let mut done = exchange(ScramHash::Sha256, "n");
        done.next(b"r=nX,s=AAAA,i=4096").unwrap();
        for message in ["", "v=", "v=?", "e=other-error", "x"] {
            let mut exchange = exchange(ScramHash::Sha256, "n");
            exchange.next(b"r=nX,s=AAAA,i=4096").unwrap();
            assert!(exchange.next(message.as_bytes()).is_err(), "{message}");
        }
    }
}
