//! `objects`: ranged reads, staged writes, listings.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{Accessor, Resource};

use super::bindings::tidegate::function::objects;
use super::{Error, Imports, LONGEST_KEY, at_most, valid_key};
use crate::sandbox::{Call, Guest};
use crate::store::{Condition, ObjectMeta, ObjectReader, Publication, StageWriter};

/// Bytes of one read or write.
const CHUNK: usize = 4 << 20;
/// Entries of one page.
const PAGE: usize = 1000;

/// An open object.
pub struct Reader(Arc<dyn ObjectReader>, ObjectMeta);

/// An object being written.
pub struct Writer {
    bucket: String,
    key: String,
    content_type: Option<String>,
    stage: Option<Box<dyn StageWriter>>,
}

impl objects::Host for Guest {
    fn delete(&mut self, bucket: String, key: String) -> wasmtime::Result<Result<(), Error>> {
        self.count_call()?;
        Ok(self.call.stage_delete(bucket, key))
    }
}

impl objects::HostReader for Guest {
    fn meta(&mut self, reader: Resource<Reader>) -> wasmtime::Result<objects::Meta> {
        self.count_call()?;
        Ok(meta(&self.table.get(&reader)?.1))
    }

    fn drop(&mut self, reader: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}

impl objects::HostWriter for Guest {
    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        self.table.delete(writer)?;
        Ok(())
    }
}

impl<T: Send + 'static> objects::HostReaderWithStore<T> for Imports {
    async fn read_at(
        accessor: &Accessor<T, Self>,
        reader: Resource<Reader>,
        offset: u64,
        len: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let (call, object) = Guest::with(accessor, |guest| {
            Ok((guest.call.clone(), guest.table.get(&reader)?.0.clone()))
        })?;
        let bytes = object.read_at(offset, (len as usize).min(CHUNK)).await;
        Ok(bytes.map(Vec::from).map_err(|error| match object.gone() {
            Some(reason) => Error::NotFound(reason.to_owned()),
            None => call.unavailable(error).into(),
        }))
    }
}

impl<T: Send + 'static> objects::HostWriterWithStore<T> for Imports {
    async fn write(
        accessor: &Accessor<T, Self>,
        writer: Resource<Writer>,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        if bytes.len() > CHUNK {
            return Ok(Err(Error::Invalid(format!(
                "found {} bytes, at most {CHUNK} a call are allowed",
                bytes.len()
            ))));
        }
        let Some(mut stage) = Guest::with(accessor, |guest| Ok(guest.table.get_mut(&writer)?.stage.take()))?
        else {
            return Ok(Err(Error::Invalid(
                "the object is finished, or another write is under way".into(),
            )));
        };
        let written = stage.write(Bytes::from(bytes)).await;
        Guest::with(accessor, |guest| {
            guest.table.get_mut(&writer)?.stage = Some(stage);
            Ok(written.map_err(|error| guest.call.unavailable(error).into()))
        })
    }

    async fn finish(
        accessor: &Accessor<T, Self>,
        writer: Resource<Writer>,
    ) -> wasmtime::Result<Result<objects::Meta, Error>> {
        let call = Guest::call_of(accessor)?;
        let taken = Guest::with(accessor, |guest| {
            let writer = guest.table.get_mut(&writer)?;
            Ok((
                writer.stage.take(),
                writer.bucket.clone(),
                writer.key.clone(),
                writer.content_type.clone(),
            ))
        })?;
        let (Some(stage), bucket, key, content_type) = taken else {
            return Ok(Err(Error::Invalid("the object is finished already".into())));
        };
        Ok(call.finish(stage, bucket, key, content_type).await)
    }
}

impl<T: Send + 'static> objects::HostWithStore<T> for Imports {
    async fn head(
        accessor: &Accessor<T, Self>,
        bucket: String,
        key: String,
    ) -> wasmtime::Result<Result<objects::Meta, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call.open(&bucket, &key).await.map(|reader| meta(&reader.1)))
    }

    async fn open(
        accessor: &Accessor<T, Self>,
        bucket: String,
        key: String,
    ) -> wasmtime::Result<Result<Resource<Reader>, Error>> {
        let call = Guest::call_of(accessor)?;
        match call.open(&bucket, &key).await {
            Ok(reader) => Guest::with(accessor, |guest| Ok(Ok(guest.table.push(reader)?))),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn list_page(
        accessor: &Accessor<T, Self>,
        bucket: String,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<objects::Page, Error>> {
        let call = Guest::call_of(accessor)?;
        Ok(call.list(&bucket, &prefix, after, limit as usize).await)
    }

    async fn create(
        accessor: &Accessor<T, Self>,
        bucket: String,
        key: String,
        content_type: Option<String>,
    ) -> wasmtime::Result<Result<Resource<Writer>, Error>> {
        let call = Guest::call_of(accessor)?;
        match call.create(bucket, key, content_type).await {
            Ok(writer) => Guest::with(accessor, |guest| Ok(Ok(guest.table.push(writer)?))),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl Call {
    fn stage_delete(&self, bucket: String, key: String) -> Result<(), Error> {
        self.spec
            .grants
            .allows_write(&self.spec.name, &bucket, &key)
            .map_err(Error::Denied)?;
        valid_key(&key)?;
        let gone = Publication {
            bucket,
            key,
            staged: None,
            content_type: None,
            user: BTreeMap::new(),
            condition: Condition::None,
        };
        self.effects().publish(gone, None)?;
        Ok(())
    }

    async fn open(&self, bucket: &str, key: &str) -> Result<Reader, Error> {
        self.spec
            .grants
            .allows_read(&self.spec.name, bucket, key)
            .map_err(Error::Denied)?;
        self.reads(bucket, key);
        let missing = || Error::NotFound(format!("object `{bucket}/{key}`"));
        let own = self
            .effects()
            .object(bucket, key)
            .map(|(p, meta)| (p.staged.clone(), meta.cloned()));
        if let Some((staged, seen)) = own {
            let (Some(staged), Some(seen)) = (staged, seen) else {
                return Err(missing());
            };
            let object = self.services.store.open_staged(&staged).await;
            return Ok(Reader(object.map_err(|error| self.unavailable(error))?, seen));
        }
        let object = self.services.store.open(bucket, key).await;
        let object = object
            .map_err(|error| self.unavailable(error))?
            .ok_or_else(missing)?;
        let seen = object.meta().clone();
        Ok(Reader(object, seen))
    }

    async fn create(
        &self,
        bucket: String,
        key: String,
        content_type: Option<String>,
    ) -> Result<Writer, Error> {
        self.spec
            .grants
            .allows_write(&self.spec.name, &bucket, &key)
            .map_err(Error::Denied)?;
        valid_key(&key)?;
        at_most(
            "bytes of a content type",
            content_type.as_deref().map_or(0, str::len),
            LONGEST_KEY,
        )?;
        let stage = self.services.store.stage().await;
        let stage = stage.map_err(|error| self.unavailable(error))?;
        Ok(Writer {
            bucket,
            key,
            content_type,
            stage: Some(stage),
        })
    }

    async fn finish(
        &self,
        stage: Box<dyn StageWriter>,
        bucket: String,
        key: String,
        content_type: Option<String>,
    ) -> Result<objects::Meta, Error> {
        let staged = stage.finish().await;
        let staged = staged.map_err(|error| self.unavailable(error))?;
        let seen = ObjectMeta {
            key: key.clone(),
            size: staged.size,
            etag: staged.etag.clone(),
            content_type: content_type.clone(),
            modified: self.services.clock.now_ms(),
            sequencer: 0,
            user: BTreeMap::new(),
        };
        let publication = Publication {
            bucket,
            key,
            staged: Some(staged),
            content_type,
            user: BTreeMap::new(),
            condition: Condition::None,
        };
        let answer = meta(&seen);
        self.effects().publish(publication, Some(seen))?;
        Ok(answer)
    }

    async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<objects::Page, Error> {
        self.spec
            .grants
            .allows_list(&self.spec.name, bucket, prefix)
            .map_err(Error::Denied)?;
        at_most(
            "bytes of a key",
            after.as_deref().map_or(0, str::len),
            LONGEST_KEY,
        )?;
        let limit = limit.clamp(1, PAGE);
        let page = self
            .services
            .store
            .list(bucket, prefix, after.as_deref(), limit)
            .await
            .map_err(|error| self.unavailable(error))?;
        let mut found: BTreeMap<String, objects::Meta> = page
            .entries
            .iter()
            .map(|entry| (entry.key.clone(), meta(entry)))
            .collect();
        let effects = self.effects();
        let seen = |key: &str| {
            after.as_deref().is_none_or(|after| key > after)
                && page.next.as_deref().is_none_or(|next| key <= next)
        };
        for (key, own) in effects.objects_under(bucket, prefix).filter(|(key, _)| seen(key)) {
            match own {
                Some(own) => found.insert(key.to_owned(), meta(own)),
                None => found.remove(key),
            };
        }
        let mut objects: Vec<_> = found.into_values().collect();
        let mut next = page.next;
        if objects.len() > limit {
            objects.truncate(limit);
            next = objects.last().map(|object| object.key.clone());
        }
        Ok(objects::Page { objects, next })
    }
}

fn meta(meta: &ObjectMeta) -> objects::Meta {
    objects::Meta {
        key: meta.key.clone(),
        size: meta.size,
        etag: meta.etag.clone(),
        content_type: meta.content_type.clone(),
        modified: meta.modified,
    }
}
