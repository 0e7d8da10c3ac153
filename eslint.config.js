import tseslint from 'typescript-eslint';

// ESLint carries the rules that need types: a lost promise is a daemon's worst bug.
export default tseslint.config(
  { ignores: ['proto/gen/**', 'dist/**', 'node_modules/**', '.cache/**', 'eslint.config.js'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      'max-lines': ['error', { max: 400 }],
      eqeqeq: 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/prefer-readonly': 'error',
      // `using _name` holds something for its disposal alone.
      '@typescript-eslint/no-unused-vars': ['error', { varsIgnorePattern: '^_' }],
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // tap's t.test() returns a promise that its parent awaits by itself.
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafeCalls: [], ignoreVoid: true, ignoreIIFE: false, checksVoidReturn: false },
      ].slice(0, 1),
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
);
