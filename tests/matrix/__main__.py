from tests.matrix.command import main

if __name__ == "__main__":
    main()
