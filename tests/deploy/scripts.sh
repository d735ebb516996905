#!/usr/bin/env bash
# Scripts and files of settings, by the tools that know their languages.
# shellcheck source=tests/deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install_tools

# Every file of the repository that the shell runs, or reads as a part of what it runs.
shell_scripts() {
  git ls-files --cached --others --exclude-standard | while read -r file; do
    [ -f "$file" ] && head -n 1 "$file" | grep -Eq '^#!.*\b(ba)?sh$|^# shellcheck shell=' && echo "$file"
  done
  true
}

all_scripts_pass() {
  local scripts
  mapfile -t scripts < <(shell_scripts)
  printf '%s\n' "${scripts[@]}" | grep -x bootstrap >/dev/null
  "$tools/bin/shellcheck" --external-sources --color=never "${scripts[@]}"
}

all_yaml_passes() {
  local files
  mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.yaml' '*.yml')
  [ ${#files[@]} -gt 3 ]
  "$tools/bin/yamllint" --strict --config-file tests/deploy/yamllint.yaml "${files[@]}"
}

recipes_are_formatted_as_just_reads_them() { just --list >/dev/null; }

check "shellcheck has nothing to say of any script" all_scripts_pass
check "yamllint has nothing to say of any YAML file" all_yaml_passes
check "just reads the justfile" recipes_are_formatted_as_just_reads_them
checked
