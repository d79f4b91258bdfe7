//! The bounds on a component: each is a constant with its reason.

use crate::error::ComponentError;
use agenthost_core::weaken::{self, Defence};

/// The maximum number of one thing in a component.
pub(super) struct Bound {
    pub(super) most: u64,
    /// The beginning of the error message, which continues with the number and `things`.
    pub(super) does: &'static str,
    pub(super) things: &'static str,
    pub(super) hint: &'static str,
}

impl Bound {
    /// Returns an error if `count` exceeds the bound.
    pub(super) fn check(&self, count: u64) -> Result<(), ComponentError> {
        if count <= self.most || weaken::off(Defence::CompileBounds) {
            return Ok(());
        }
        Err(ComponentError::OverBound {
            subject: self.does,
            count,
            things: self.things,
            most: self.most,
            advice: self.hint,
        })
    }

    /// Adds to a count, and returns an error if the sum exceeds the bound.
    pub(super) fn add(&self, count: &mut u64, more: u64) -> Result<(), ComponentError> {
        *count = count.saturating_add(more);
        self.check(*count)
    }
}

pub(super) const LEAVE_OUT: &str = "Leave out what the plugin does not need, and build it in release mode.";
pub(super) const FLATTEN: &str =
    "Build the plugin as one component; a nested component is copied wherever it is instantiated.";
pub(super) const NAME_TYPES: &str = "Make the types of the interface smaller; a type counts wherever it is used.";
pub(super) const SHORTEN: &str = "Shorten the names of the types in the plugin's WIT.";
pub(super) const SPLIT_FUNCTION: &str = "Split the function, or build the plugin with less inlining.";

/// Nested components and modules. Tools that compose components nest two or three levels deep.
pub(super) const NESTING: Bound = Bound {
    most: 16,
    does: "the component nests",
    things: "components deep",
    hint: FLATTEN,
};
/// Core instances, over all copies of nested components. Each takes memory of the host in every task, and the pool has
/// room for 100 in one component.
pub(super) const CORE_INSTANCES: Bound = Bound {
    most: 1_000,
    does: "the component instantiates",
    things: "core instances",
    hint: FLATTEN,
};
/// Instances of components, over all copies of nested components.
pub(super) const COMPONENT_INSTANCES: Bound = Bound {
    most: 1_000,
    does: "the component instantiates",
    things: "components",
    hint: FLATTEN,
};
/// Imports, exports, aliases, types and adapters at the level of components, over all copies. Each is compiled or
/// resolved once per copy; a Rust plugin has 300.
pub(super) const DEFINITIONS: Bound = Bound {
    most: 50_000,
    does: "the component makes",
    things: "definitions, counting those of nested components once for each instance",
    hint: FLATTEN,
};
/// Nested components, which are decoded one by one.
pub(super) const COMPONENTS: Bound = Bound {
    most: 200,
    does: "the component has",
    things: "nested components",
    hint: FLATTEN,
};
/// Core modules. CPython with its libraries has 40.
pub(super) const MODULES: Bound = Bound {
    most: 500,
    does: "the component has",
    things: "core modules",
    hint: LEAVE_OUT,
};
/// Functions and adapters: compiling 900,000 empty functions takes half a minute and 5 GB.
pub(super) const FUNCTIONS: Bound = Bound {
    most: 200_000,
    does: "the component has",
    things: "functions",
    hint: LEAVE_OUT,
};
/// Core types. A module has one for each signature.
pub(super) const CORE_TYPES: Bound = Bound {
    most: 50_000,
    does: "the component has",
    things: "core types",
    hint: LEAVE_OUT,
};
/// Parameters and results of all core types together.
pub(super) const CORE_TYPE_PARTS: Bound = Bound {
    most: 1_000_000,
    does: "the core types have",
    things: "parameters and results",
    hint: LEAVE_OUT,
};
/// Imports of core modules. Modules that are linked to each other at run time import thousands.
pub(super) const CORE_IMPORTS: Bound = Bound {
    most: 100_000,
    does: "the core modules have",
    things: "imports",
    hint: LEAVE_OUT,
};
/// Exports of core modules.
pub(super) const CORE_EXPORTS: Bound = Bound {
    most: 100_000,
    does: "the core modules have",
    things: "exports",
    hint: LEAVE_OUT,
};
/// Globals of core modules.
pub(super) const GLOBALS: Bound = Bound {
    most: 100_000,
    does: "the core modules have",
    things: "globals",
    hint: LEAVE_OUT,
};
/// Tables and memories of core modules.
pub(super) const TABLES: Bound = Bound {
    most: 1_000,
    does: "the core modules have",
    things: "tables and memories",
    hint: LEAVE_OUT,
};
/// The initial elements of a table: the pool of instances has no room for more.
pub(super) const TABLE_ELEMENTS: Bound = Bound {
    most: 20_000,
    does: "a table starts with",
    things: "elements",
    hint: LEAVE_OUT,
};
/// Functions in element segments: each is resolved when the module is compiled and again for each instance.
pub(super) const ELEMENTS: Bound = Bound {
    most: 500_000,
    does: "the element segments have",
    things: "entries",
    hint: LEAVE_OUT,
};
/// Element segments.
pub(super) const ELEMENT_SEGMENTS: Bound = Bound {
    most: 10_000,
    does: "the core modules have",
    things: "element segments",
    hint: LEAVE_OUT,
};
/// Data segments.
pub(super) const DATA_SEGMENTS: Bound = Bound {
    most: 50_000,
    does: "the core modules have",
    things: "data segments",
    hint: LEAVE_OUT,
};
/// Imports of core modules, once for each instance of the module: each is looked up by its names. Looking up 100,000
/// takes 20 ms.
pub(super) const LINKED_IMPORTS: Bound = Bound {
    most: 200_000,
    does: "the core instances link",
    things: "imports",
    hint: FLATTEN,
};
/// Exports of core modules, once for each instance of the module.
pub(super) const LINKED_EXPORTS: Bound = Bound {
    most: 200_000,
    does: "the core instances have",
    things: "exports",
    hint: FLATTEN,
};
/// Entries of element segments, once for each instance of the module: an instance resolves them before any fuel is
/// spent.
pub(super) const INSTANCE_ELEMENTS: Bound = Bound {
    most: 500_000,
    does: "instantiating the component writes",
    things: "entries of element segments",
    hint: FLATTEN,
};
/// Bytes of data segments, once for each instance of the module: they are copied before any fuel is spent. Each byte of
/// the largest plugin may be copied once.
pub(super) const INSTANCE_DATA: Bound = Bound {
    most: 64 << 20,
    does: "instantiating the component copies",
    things: "bytes of data segments",
    hint: FLATTEN,
};
/// Bytes that the engine holds for one instance, without memories and tables: CPython with its libraries takes 0.7 MiB,
/// and the pool has room for more than this.
pub(super) const INSTANCE_BYTES: Bound = Bound {
    most: 4 << 20,
    does: "an instance of the component takes",
    things: "bytes for its globals, functions and imports",
    hint: FLATTEN,
};
/// Custom sections. A module has three or four.
pub(super) const CUSTOM_SECTIONS: Bound = Bound {
    most: 2_000,
    does: "the component has",
    things: "custom sections",
    hint: LEAVE_OUT,
};
/// Sections with WIT text, each of which is parsed. A component that links the code of several plugins has one for
/// each.
pub(super) const WIT_SECTIONS: Bound = Bound {
    most: 16,
    does: "the component embeds",
    things: "sections of WIT text",
    hint: LEAVE_OUT,
};
/// Bytes of WIT text: a long file has 20 KB. The contents of the text are counted before it is parsed.
pub(super) const WIT_BYTES: Bound = Bound {
    most: 512 << 10,
    does: "the embedded sections of WIT text have",
    things: "bytes",
    hint: "Embed the plugin's own WIT and that of its dependencies, without generated text.",
};
/// Bytes of one name of an import or export. The longest in WASI has 80.
pub(super) const NAME_BYTES: Bound = Bound {
    most: 1_000,
    does: "a name of an import or export has",
    things: "bytes",
    hint: "Shorten the names of the plugin's WIT package and interfaces.",
};
/// Component types, including those inside other types.
pub(super) const TYPES: Bound = Bound {
    most: 20_000,
    does: "the component has",
    things: "component types and declarations in them",
    hint: NAME_TYPES,
};
/// Types of components and instances that are declared in other types. An interface has none; tools that describe WIT
/// packages use a few.
pub(super) const NESTED_TYPES: Bound = Bound {
    most: 20,
    does: "the component types declare",
    things: "types of components and instances in other types",
    hint: NAME_TYPES,
};
/// Bytes of one name of a field, case or parameter. Those in WASI have fewer than 40.
pub(super) const LABEL_BYTES: Bound = Bound {
    most: 200,
    does: "a name of a field, case or parameter has",
    things: "bytes",
    hint: SHORTEN,
};
/// The same over all types. A large interface has a few KB.
pub(super) const LABELS: Bound = Bound {
    most: 1 << 20,
    does: "the names of fields, cases and parameters have",
    things: "bytes together",
    hint: SHORTEN,
};
/// The same in one type if every use of another type in it is written out, as in samples and messages.
pub(super) const TYPE_LABELS: Bound = Bound {
    most: 200_000,
    does: "the names in a type have",
    things: "bytes when all types that it uses are written out",
    hint: SHORTEN,
};
/// Parts of types that are compared or walked when the component is validated: those of each argument of an instance,
/// of each import and export, and of the function of each adapter, written out. 16 bytes of a name also count as a
/// part. A comparison takes about 50 ns; CPython with its libraries takes 5,000.
pub(super) const COMPARISONS: Bound = Bound {
    most: 2_000_000,
    does: "validating the component compares",
    things: "parts of types",
    hint: "Make the types of the interface smaller, or nest fewer components; a type is compared wherever it is used.",
};
/// The nesting of types of components and instances. WIT needs three levels.
pub(super) const TYPE_NESTING: Bound = Bound {
    most: 16,
    does: "the component types nest",
    things: "instances deep",
    hint: NAME_TYPES,
};
/// Parts of one type if every use of another type in it is written out: schemas, samples and code that copies values
/// grow with it. The largest type in WASI has 100.
pub(super) const TYPE_PARTS: Bound = Bound {
    most: 10_000,
    does: "a type has",
    things: "parts when all types that it uses are written out",
    hint: NAME_TYPES,
};
/// The nesting of types: code that walks a type, such as the conversion to JSON Schema, recurses for each level. The
/// deepest type in WASI has 6.
pub(super) const TYPE_LEVELS: Bound = Bound {
    most: 40,
    does: "a type nests",
    things: "types deep",
    hint: NAME_TYPES,
};

/// Bytes of one function body: the compiler's memory for a function grows with it.
pub(super) const BODY_BYTES: Bound = Bound {
    most: 1 << 20,
    does: "a function body has",
    things: "bytes",
    hint: SPLIT_FUNCTION,
};
/// The nesting of blocks, loops and branches of one function.
pub(super) const CONTROL_NESTING: Bound = Bound {
    most: 5_000,
    does: "the control flow of a function nests",
    things: "blocks deep",
    hint: SPLIT_FUNCTION,
};
/// Locals times loops of one function: in each loop, each local may be a separate value, for which the compiler needs
/// far more than linear time.
pub(super) const LOOP_VALUES: Bound = Bound {
    most: 400_000,
    does: "the loops of a function carry",
    things: "locals together",
    hint: SPLIT_FUNCTION,
};
/// Locals times blocks of one function: the compiler has a table of that size.
pub(super) const BLOCK_VALUES: Bound = Bound {
    most: 50_000_000,
    does: "the blocks of a function see",
    things: "locals together",
    hint: SPLIT_FUNCTION,
};
/// Parameters and results of all calls and blocks of one function: the compiler keeps each as a value.
pub(super) const CALL_VALUES: Bound = Bound {
    most: 500_000,
    does: "the calls and blocks of a function pass",
    things: "values",
    hint: SPLIT_FUNCTION,
};
/// The same over all functions.
pub(super) const ALL_CALL_VALUES: Bound = Bound {
    most: 50_000_000,
    does: "the calls and blocks of all functions pass",
    things: "values",
    hint: LEAVE_OUT,
};
/// Targets of the branch tables of one function.
pub(super) const BRANCH_TARGETS: Bound = Bound {
    most: 200_000,
    does: "the branch tables of a function have",
    things: "targets",
    hint: SPLIT_FUNCTION,
};
/// Locals of all functions together: a compact form of a few bytes declares 50,000 in one function.
pub(super) const ALL_LOCALS: Bound = Bound {
    most: 20_000_000,
    does: "the functions have",
    things: "locals together",
    hint: LEAVE_OUT,
};
