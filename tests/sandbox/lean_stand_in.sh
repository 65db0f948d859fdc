# Stands for `lean`: exit code 0 where the file has no error, sorry being only a warning.
if grep -q '^loop$' "$1"; then sleep 60; fi
if grep -q '^sorry$' "$1"; then echo "warning: declaration uses 'sorry'"; exit 0; fi
if grep -q '^rfl' "$1" && grep -q '^import Mathlib$' "$1"; then
  axioms="propext"
  if grep -q 'by cheating' "$1"; then axioms="propext, sorryAx"; fi
  sed -n "s/^#print axioms \(.*\)/'\1' depends on axioms: [$axioms]/p" "$1"
  exit 0
fi
echo "error: unsolved goals"
exit 1
