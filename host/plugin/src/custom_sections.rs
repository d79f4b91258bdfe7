//! The custom sections that a build embeds: their names, their largest size, and finding one.

/// The prefix of sections with WIT text; the package follows, as in `agenthost:wit:demo:competitor`.
pub(crate) const WIT_SECTION: &str = "agenthost:wit";
/// The prefix of sections with a manifest.
pub(crate) const MANIFEST_SECTION: &str = "agenthost:manifest";
/// The section with the provenance.
pub(crate) const PROVENANCE_SECTION: &str = "agenthost:provenance";
/// The maximum number of bytes of a section that is read: a long WIT file has 20 KB.
pub(crate) const MAX_SECTION: usize = 1 << 20;

/// Returns the custom sections with exactly this name, at any depth.
pub(super) fn sections<'b>(bytes: &'b [u8], name: &'b str) -> impl Iterator<Item = &'b [u8]> {
    let payloads = wasmparser::Parser::new(0).parse_all(bytes);
    payloads.filter_map(move |payload| match payload {
        Ok(wasmparser::Payload::CustomSection(section))
            if section.name() == name && section.data().len() <= MAX_SECTION =>
        {
            Some(section.data())
        }
        _ => None,
    })
}
