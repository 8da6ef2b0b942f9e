//! The numbers of a split, a column of them: in memory where there are few, else in a file that the system maps into it and
//! keeps there as far as there is room. What is trained on may so be larger than the memory of the machine.

use std::io;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// From so many bytes on, a column lies in a file.
const FILE_FROM: usize = 64 << 20;

/// Numbers of one type, as a slice.
#[derive(Debug)]
pub enum Column<T> {
    /// In memory.
    Held(Vec<T>),
    /// In a file without a name, which goes with it.
    Mapped(MmapMut),
}

impl<T: Pod> Column<T> {
    /// So many zeroes. The error says what could not be had.
    pub fn zeroed(len: usize) -> Result<Self, String> {
        let bytes = len.saturating_mul(size_of::<T>());
        if bytes < FILE_FROM {
            return Ok(Self::Held(vec![T::zeroed(); len]));
        }
        let mapped = mapped(bytes as u64);
        let told = |error| {
            let folder = std::env::temp_dir();
            format!("needs {bytes} bytes in `{}`: {error}", folder.display())
        };
        mapped.map(Self::Mapped).map_err(told)
    }
}

/// A file of so many zeroes in the system's temporary folder.
fn mapped(bytes: u64) -> io::Result<MmapMut> {
    let file = tempfile::tempfile()?;
    file.set_len(bytes)?;
    // A disk that is full shall be told of here: a page that finds no room later ends the process.
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    // SAFETY: the file has no name, and its only handle ends here: nobody else can cut it short or write to it.
    unsafe { MmapMut::map_mut(&file) }
}

impl<T: Pod> Deref for Column<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Held(values) => values,
            Self::Mapped(bytes) => bytemuck::cast_slice(bytes),
        }
    }
}

impl<T: Pod> DerefMut for Column<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Held(values) => values,
            Self::Mapped(bytes) => bytemuck::cast_slice_mut(bytes),
        }
    }
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self::Held(Vec::new())
    }
}

impl<T> From<Vec<T>> for Column<T> {
    fn from(values: Vec<T>) -> Self {
        Self::Held(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_numbers_lie_in_a_file_and_few_in_memory_and_are_the_same_to_use() {
        let mut many = Column::<f32>::zeroed(FILE_FROM / 4).unwrap();
        let mut few = Column::<f32>::zeroed(3).unwrap();
        assert!(matches!(many, Column::Mapped(_)) && matches!(few, Column::Held(_)));
        for column in [&mut many, &mut few] {
            column[2] = 7.0;
            assert_eq!(column[..3], [0.0, 0.0, 7.0]);
        }
        assert_eq!((many.len(), few.len()), (FILE_FROM / 4, 3));
    }

    #[test]
    fn more_than_the_disk_has_is_refused_with_what_it_would_take() {
        let refused = Column::<f32>::zeroed(1 << 58).unwrap_err();
        assert!(
            refused.contains(&format!("needs {} bytes in `", 1u64 << 60)),
            "{refused}"
        );
    }
}
