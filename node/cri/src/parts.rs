//! Long lists in parts, for the streaming lists of the CRI (KEP 5825): no part comes near the largest message.

use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tonic::{Response, Status};

/// Bytes that a part has at most, unless one object alone has more.
const PART_BYTES: usize = 1024 * 1024;

/// Answers of a streaming list, until all objects were told.
pub(crate) type Parts<R> = BoxStream<'static, Result<R, Status>>;

/// The objects of a list as the answers of a stream: each in exactly one, none empty.
pub(crate) fn in_parts<T, R>(items: Vec<T>, answer: fn(Vec<T>) -> R) -> Response<Parts<R>>
where
    T: Message,
    R: Send + 'static,
{
    let answers: Vec<_> = split(items).into_iter().map(|part| Ok(answer(part))).collect();
    Response::new(futures::stream::iter(answers).boxed())
}

fn split<T: Message>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let length = item.encoded_len();
        match parts.last_mut() {
            Some(part) if length <= room => part.push(item),
            _ => {
                room = PART_BYTES;
                parts.push(vec![item]);
            }
        }
        room = room.saturating_sub(length);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::Image;

    fn image(bytes: usize) -> Image {
        Image {
            id: "x".repeat(bytes),
            ..Default::default()
        }
    }

    #[test]
    fn each_object_is_in_one_part_and_no_part_is_large_or_empty() {
        assert!(split::<Image>(Vec::new()).is_empty());
        let sizes = [
            10,
            PART_BYTES / 2,
            PART_BYTES / 3,
            PART_BYTES / 3,
            2 * PART_BYTES,
            5,
            6,
        ];
        let parts = split(Vec::from(sizes.map(image)));
        let lengths: Vec<Vec<usize>> = parts
            .iter()
            .map(|part| part.iter().map(|image| image.id.len()).collect())
            .collect();
        let [tiny, half, third, other, huge, a, b] = sizes;
        assert_eq!(
            lengths,
            [vec![tiny, half, third], vec![other], vec![huge], vec![a, b]]
        );
    }
}
