# shellcheck shell=bash disable=SC2034
# For checks of the tree: a copy of it ($work/tree) and of the check ($work/check), in which something is planted.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# copy ROOT CHECK FOLDER...: the check itself must find nothing in them
copy() {
    local root=$1 check=$2
    shift 2
    mkdir "$work/tree"
    (cd "$root" && cp -r --parents "$@" "$work/tree")
    cp "$root/contrib/$check" "$work/check"
    "$work/check" "$work/tree" || { echo "the tree itself is not clean"; exit 1; }
}

# planted WHAT FILE LINE WANTED: with the line in FILE the check fails and says WANTED (a fixed string).
planted() {
    local what=$1 file=$2 line=$3 wanted=$4 said
    cp "$work/tree/$file" "$work/kept"
    printf '%s\n' "$line" >>"$work/tree/$file"
    if said=$("$work/check" "$work/tree" 2>&1); then
        echo "not found: $what"
        failed=1
    elif ! grep -qF -- "$wanted" <<<"$said"; then
        echo "$what: wanted \"$wanted\", got: $said"
        failed=1
    fi
    cp "$work/kept" "$work/tree/$file"
}
