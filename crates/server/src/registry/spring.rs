//! Files in which Spring's servers are configured: properties and YAML, as one flat list of keys.
//!
//! Keys are compared as Spring compares them: without regard to case, dashes and underscores.

use std::io;
use std::path::Path;

use saphyr_parser::{Event, Parser};

use crate::config::properties;

/// Configurations nest less deep.
const MAX_DEPTH: usize = 32;

/// A key as it was written, and its value.
pub(super) type Pair = (String, String);

/// How a file is read.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Reads a file by its name's ending: `.yml` and `.yaml` are YAML, others are properties. `read`: how the bytes are read, no more than a mebibyte.
pub(super) fn read(path: &Path, read: ReadFile<'_>) -> Result<Vec<Pair>, String> {
    let name = path.display();
    let bytes = read(path).map_err(|error| format!("can't read {name}: {error}"))?;
    let is_yaml = path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml");
    if !is_yaml {
        let properties = properties::parse(&name.to_string(), &bytes).map_err(|fault| fault.to_string())?;
        return Ok(properties.into_iter().map(|property| (property.key, property.value)).collect());
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8"))?;
    flat(&text).map_err(|error| format!("{name} is no YAML that can be read here: {error}"))
}

/// Where a reader of YAML is.
enum Level {
    /// The keys that lead here, and the one whose value comes next.
    Mapping { prefix: String, key: Option<String> },
    /// What a list holds so far.
    Sequence { name: String, values: Vec<String> },
}

/// All values of all documents, each under the keys that lead to it, with dots between. A list becomes one value with commas.
fn flat(text: &str) -> Result<Vec<Pair>, String> {
    let (mut pairs, mut levels) = (Vec::new(), Vec::<Level>::new());
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        match event {
            Event::MappingStart(..) => {
                let prefix = name_of_next(&mut levels);
                levels.push(Level::Mapping { prefix, key: None });
            }
            Event::SequenceStart(..) => {
                let name = name_of_next(&mut levels);
                levels.push(Level::Sequence { name, values: Vec::new() });
            }
            Event::MappingEnd => drop(levels.pop()),
            Event::SequenceEnd => {
                if let Some(Level::Sequence { name, values }) = levels.pop() {
                    pairs.push((name, values.join(",")));
                }
            }
            Event::Scalar(value, ..) => match levels.last_mut() {
                Some(Level::Mapping { key: key @ None, .. }) => *key = Some(value.into_owned()),
                Some(Level::Sequence { values, .. }) => values.push(value.into_owned()),
                Some(Level::Mapping { .. }) => pairs.push((name_of_next(&mut levels), value.into_owned())),
                None => {}
            },
            Event::Alias(_) => return Err("an alias stands in it; write the value instead".to_owned()),
            _ => {}
        }
        if levels.len() > MAX_DEPTH {
            return Err(format!("it nests deeper than {MAX_DEPTH} levels"));
        }
    }
    Ok(pairs)
}

/// The keys that lead to the value that begins, and the end of that key.
fn name_of_next(levels: &mut [Level]) -> String {
    match levels.last_mut() {
        Some(Level::Mapping { prefix, key }) => {
            let key = key.take().unwrap_or_default();
            if prefix.is_empty() { key } else { format!("{prefix}.{key}") }
        }
        Some(Level::Sequence { name, .. }) => name.clone(),
        None => String::new(),
    }
}

/// A key as it is compared.
pub(super) fn canonical(key: &str) -> String {
    key.chars().filter(|character| !matches!(character, '-' | '_')).flat_map(char::to_lowercase).collect()
}
