use std::path::PathBuf;

/// A program that stands for an image.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Other names of the file, by which programs that are executed in a pod call it.
    pub names: Vec<String>,
    /// The environment of programs that are executed in a pod, besides the container's. `{root}` stands for the directory of
    /// its absolute paths, `{run}` for that of its sockets.
    pub shell: Vec<(String, String)>,
}

/// Which images there are: parts of names, and the programs that run for them.
#[derive(Clone, Debug, Default)]
pub struct Images(pub Vec<(String, Program)>);

impl Images {
    /// The program for an image.
    ///
    /// # Errors
    /// It does not exist; the text says which exist.
    pub(super) fn program(&self, image: &str) -> Result<&Program, String> {
        let name = image.rsplit('/').next().unwrap_or(image);
        let found = self.0.iter().find(|(part, _)| name.contains(part.as_str()));
        found.map(|(_, program)| program).ok_or_else(|| {
            let known: Vec<&str> = self.0.iter().map(|(part, _)| part.as_str()).collect();
            format!(
                "the sandbox runs no containers, only built-in programs for images whose name contains {}; \"{image}\" is none \
                 of them",
                known.join(" or ")
            )
        })
    }
}
