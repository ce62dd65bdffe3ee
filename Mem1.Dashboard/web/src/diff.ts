// Word by word difference of two texts: the longest common subsequence.
export interface Piece { kind: 'same' | 'added' | 'removed'; text: string }

// Beyond this the table would take longer than a frame; a state of a constant-memory agent is far shorter.
const MAX_WORDS = 1500;

export function diff(before: string, after: string): Piece[] {
  const a = before.match(/\S+\s*/g) ?? [];
  const b = after.match(/\S+\s*/g) ?? [];
  if (a.length > MAX_WORDS || b.length > MAX_WORDS) return [{ kind: 'removed', text: before }, { kind: 'added', text: after }];
  const same = (i: number, j: number): boolean => a[i]!.trim() === b[j]!.trim();
  const width = b.length + 1;
  const longest = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      longest[i * width + j] = same(i, j) ? longest[(i + 1) * width + j + 1]! + 1
        : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
    }
  }
  const pieces: Piece[] = [];
  const push = (kind: Piece['kind'], text: string): void => {
    const lastPiece = pieces[pieces.length - 1];
    if (lastPiece?.kind === kind) lastPiece.text += text;
    else pieces.push({ kind, text });
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && same(i, j)) {
      push('same', b[j]!);
      i++;
      j++;
    } else if (j < b.length && (i === a.length || longest[i * width + j + 1]! >= longest[(i + 1) * width + j]!)) {
      push('added', b[j++]!);
    } else {
      push('removed', a[i++]!);
    }
  }
  return pieces;
}
