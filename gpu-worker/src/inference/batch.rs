//! Requests that are run together: their rows one after the other, and each one's rows of what comes out.

use super::element::Element;
use super::signature::Signature;
use super::tensors::Elements;

/// The rows of a request; none where its inputs differ in them.
pub fn rows(inputs: &[Elements]) -> Option<usize> {
    let rows = inputs.first()?.shape.first()?;
    let same = inputs.iter().all(|input| input.shape.first() == Some(rows));
    usize::try_from(*rows).ok().filter(|_| same)
}

/// The inputs of several requests as those of one.
pub fn join(requests: &[Vec<Elements>]) -> Vec<Elements> {
    let Some(first) = requests.first() else {
        return Vec::new();
    };
    let joined = |at: usize| {
        let parts = || requests.iter().filter_map(|request| request.get(at));
        let mut shape = first.get(at).map(|input| input.shape.clone()).unwrap_or_default();
        if let Some(rows) = shape.first_mut() {
            *rows = parts().filter_map(|part| part.shape.first()).sum();
        }
        let mut raw = Vec::with_capacity(parts().map(|part| part.raw.len()).sum());
        parts().for_each(|part| raw.extend_from_slice(&part.raw));
        Elements {
            shape,
            raw: raw.into(),
        }
    };
    (0..first.len()).map(joined).collect()
}

/// What came out, for requests of so many rows each; none where an output has another number of rows.
pub fn split(signature: &Signature, outputs: &[Elements], rows: &[usize]) -> Option<Vec<Vec<Elements>>> {
    let mut answers = vec![Vec::with_capacity(outputs.len()); rows.len()];
    for (port, output) in signature.outputs.iter().zip(outputs) {
        for (answer, part) in answers.iter_mut().zip(cut(output, port.element, rows)?) {
            answer.push(part);
        }
    }
    Some(answers)
}

fn cut(output: &Elements, element: Element, rows: &[usize]) -> Option<Vec<Elements>> {
    let all: usize = rows.iter().sum();
    let (first, tail) = output.shape.split_first()?;
    if usize::try_from(*first).ok()? != all || all == 0 {
        return None;
    }
    let each = output.count() / all;
    let mut rest = output.raw.clone();
    let mut parts = Vec::with_capacity(rows.len());
    for &rows in rows {
        let length = match element.size() {
            Some(size) => rows * each * size,
            None => length_of_texts(&rest, rows * each)?,
        };
        if length > rest.len() {
            return None;
        }
        parts.push(Elements {
            shape: std::iter::once(rows as i64).chain(tail.iter().copied()).collect(),
            raw: rest.split_to(length),
        });
    }
    Some(parts)
}

/// The bytes of so many texts, each after its length.
fn length_of_texts(raw: &[u8], count: usize) -> Option<usize> {
    let mut length = 0usize;
    for _ in 0..count {
        let told = raw.get(length..)?.first_chunk::<4>()?;
        length = length
            .checked_add(4)?
            .checked_add(u32::from_le_bytes(*told) as usize)?;
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::element;
    use super::super::tensors::Port;
    use super::*;

    fn numbers(shape: &[i64], raw: &[u8]) -> Elements {
        Elements {
            shape: shape.to_vec(),
            raw: Bytes::copy_from_slice(raw),
        }
    }

    fn signature(elements: &[Element]) -> Signature {
        let port = |&element| Port {
            name: "y".into(),
            element,
            shape: vec![-1],
            symbols: vec![String::new()],
        };
        Signature {
            name: "m".into(),
            version: "1".into(),
            inputs: Vec::new(),
            outputs: elements.iter().map(port).collect(),
            properties: Default::default(),
        }
    }

    #[test]
    fn rows_are_joined_and_come_back_to_whom_they_belong() {
        let one = [numbers(&[1, 2], &[1, 2]), numbers(&[1], &[9])];
        let two = [numbers(&[2, 2], &[3, 4, 5, 6]), numbers(&[2], &[8, 7])];
        assert_eq!((rows(&one), rows(&two)), (Some(1), Some(2)));
        let joined = join(&[one.to_vec(), two.to_vec()]);
        assert_eq!(
            joined,
            [numbers(&[3, 2], &[1, 2, 3, 4, 5, 6]), numbers(&[3], &[9, 8, 7])]
        );
        let signature = signature(&[Element::Uint8, Element::Uint8]);
        assert_eq!(
            split(&signature, &joined, &[1, 2]),
            Some(vec![one.to_vec(), two.to_vec()])
        );
    }

    #[test]
    fn texts_are_cut_where_they_end() {
        let texts = element::join([b"ab".as_slice(), b"", b"c"].into_iter());
        let outputs = [numbers(&[3], &texts)];
        let answers = split(&signature(&[Element::Bytes]), &outputs, &[2, 1]).unwrap();
        assert_eq!(
            element::split(&answers[0][0].raw),
            Some(vec![b"ab".as_slice(), b""])
        );
        assert_eq!(element::split(&answers[1][0].raw), Some(vec![b"c".as_slice()]));
    }

    #[test]
    fn what_has_other_rows_is_not_run_together() {
        assert_eq!(rows(&[numbers(&[1], &[1]), numbers(&[2], &[1, 2])]), None);
        assert_eq!(
            split(&signature(&[Element::Uint8]), &[numbers(&[2], &[1, 2])], &[1, 2]),
            None
        );
    }
}
