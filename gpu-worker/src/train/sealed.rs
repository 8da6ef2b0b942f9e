//! Bytes that know whether they are whole: a magic line, length-prefixed sections (little endian), and the SHA-256 of all
//! before it. What checkpoints are kept in.

use sha2::{Digest, Sha256};

const SUM: usize = 32;

/// Sections as they are written, one after another.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Nothing but the line that tells the format.
    pub fn new(magic: &[u8]) -> Self {
        Self(magic.to_vec())
    }

    /// Appends a section.
    pub fn section(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 8]);
        fill(&mut self.0);
        let length = (self.0.len() - start - 8) as u64;
        self.0[start..start + 8].copy_from_slice(&length.to_le_bytes());
    }

    /// The whole, sealed.
    pub fn seal(mut self) -> Vec<u8> {
        let sum = Sha256::digest(&self.0);
        self.0.extend_from_slice(&sum);
        self.0
    }
}

/// Sections as they are read, in their order. The errors say why the bytes are of no use.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks the seal and the format.
    pub fn open(content: &'a [u8], magic: &[u8]) -> Result<Self, String> {
        let length = content.len().checked_sub(SUM).ok_or("it is too short")?;
        let (body, sum) = content.split_at(length);
        if Sha256::digest(body)[..] != *sum {
            return Err("its checksum does not match".to_owned());
        }
        let rest = body.strip_prefix(magic);
        rest.map(Self).ok_or_else(|| "it is of another format".to_owned())
    }

    /// The next section.
    pub fn section(&mut self) -> Result<&'a [u8], String> {
        let short = || "it ends early".to_owned();
        let (length, tail) = self.0.split_first_chunk::<8>().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| short())?;
        let (section, tail) = tail.split_at_checked(length).ok_or_else(short)?;
        self.0 = tail;
        Ok(section)
    }
}

/// The bytes of numbers.
pub fn floats(out: &mut Vec<u8>, values: &[f32]) {
    values
        .iter()
        .for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

/// The numbers of a section, of which there must be so many.
pub fn read_floats(bytes: &[u8], count: usize) -> Result<Vec<f32>, String> {
    let (words, rest) = bytes.as_chunks::<4>();
    if words.len() != count || !rest.is_empty() {
        return Err(format!(
            "a section has {} bytes, {} were expected",
            bytes.len(),
            4 * count
        ));
    }
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}
