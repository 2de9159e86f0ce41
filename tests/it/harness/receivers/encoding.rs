//! The content encodings that Sentry and collectors accept.

use async_compression::tokio::bufread;
use tokio::io::{AsyncRead, AsyncReadExt};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    Identity,
    /// RFC 1952
    Gzip,
    /// RFC 1950: HTTP's "deflate" is a zlib stream.
    Deflate,
    /// RFC 7932
    Brotli,
    /// RFC 8878
    Zstd,
}

impl Encoding {
    pub const ALL: [Self; 5] = [Self::Identity, Self::Gzip, Self::Deflate, Self::Brotli, Self::Zstd];

    /// The name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The encoding of a `Content-Encoding` header; identity without one.
    pub fn named(name: Option<&str>) -> Result<Self, String> {
        let name = name.unwrap_or("identity");
        Self::ALL.into_iter().find(|encoding| encoding.name() == name).ok_or_else(|| name.to_owned())
    }

    pub async fn decode(self, body: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(body.to_vec()),
            Self::Gzip => all(bufread::GzipDecoder::new(body)).await,
            Self::Deflate => all(bufread::ZlibDecoder::new(body)).await,
            Self::Brotli => all(bufread::BrotliDecoder::new(body)).await,
            Self::Zstd => all(bufread::ZstdDecoder::new(body)).await,
        }
    }

    pub async fn encode(self, body: &[u8]) -> Vec<u8> {
        let encoded = match self {
            Self::Identity => Ok(body.to_vec()),
            Self::Gzip => all(bufread::GzipEncoder::new(body)).await,
            Self::Deflate => all(bufread::ZlibEncoder::new(body)).await,
            Self::Brotli => all(bufread::BrotliEncoder::new(body)).await,
            Self::Zstd => all(bufread::ZstdEncoder::new(body)).await,
        };
        encoded.unwrap()
    }
}

async fn all(mut from: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    from.read_to_end(&mut read).await?;
    Ok(read)
}
